"""Addresses: words and tags stay aligned, near-duplicates share a group."""

import io
import tarfile

import pytest

from mmbert.datasets.addresses import Addresses, read_addresses
from mmbert.errors import IntegrityError

XML = b"""<AddressCollection>
  <AddressString><AddressNumber>12</AddressNumber> <StreetName>Oak</StreetName> <PlaceName>St Paul,</PlaceName>
  </AddressString>
  <AddressString></AddressString>
  <AddressString><AddressNumber>12</AddressNumber> <StreetName>OAK,</StreetName> <PlaceName>St. Paul</PlaceName>
  </AddressString>
  <AddressString><StreetName>Elm</StreetName></AddressString>
</AddressCollection>"""


def sdist(folder, xml):
    path = folder / "usaddress-0.5.16.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        info = tarfile.TarInfo("usaddress-0.5.16/training/labeled.xml")
        info.size = len(xml)
        file.addfile(info, io.BytesIO(xml))
    return path


def test_words_and_tags(tmp_path):
    frame = read_addresses(sdist(tmp_path, XML))
    assert list(frame.columns) == list(Addresses.columns)
    assert frame["words"][0] == ["12", "Oak", "St", "Paul,"]
    assert frame["tags"][0] == ["AddressNumber", "StreetName", "PlaceName", "PlaceName"]
    assert frame["text"][0] == "12 Oak St Paul,"
    assert (frame["words"].map(len) == frame["tags"].map(len)).all()


def test_an_address_without_words_is_left_out_and_numbers_stay(tmp_path):
    assert list(read_addresses(sdist(tmp_path, XML))["id"]) == ["0", "2", "3"]


def test_addresses_that_differ_in_case_and_punctuation_share_a_group(tmp_path):
    first, second, third = read_addresses(sdist(tmp_path, XML))["group"]
    assert first == second != third


def test_rare_tags_are_not_labels(tmp_path):
    frame = read_addresses(sdist(tmp_path, XML), minimum_count=3)
    assert frame["tags"][0] == [None, "StreetName", "PlaceName", "PlaceName"]
    assert frame["words"][0] == ["12", "Oak", "St", "Paul,"]


def test_broken_xml_is_named(tmp_path):
    with pytest.raises(IntegrityError, match=r"labeled\.xml is not valid XML"):
        read_addresses(sdist(tmp_path, XML[:-20]))
