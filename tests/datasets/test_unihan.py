"""The Unicode Han database: definitions, radicals, finals and families of variants."""

import pytest

from mmbert.datasets.unihan import clean_definition, final_of, group_variants, radical_of


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("moon; month; Kangxi radical 74", "moon; month"),
        ("clothes; radical number 145", "clothes"),
        ("Radical 122", None),
        ("simplified Kangxi radical 149", None),
        ("lame; the first form is Radical 43", "lame"),
        ("(same as U+7B44 筄) last name; Kangxi radical 26; a joint", "(same as) last name; a joint"),
        ("radical, extreme; free radical", "radical, extreme; free radical"),
    ],
)
def test_a_definition_does_not_reveal_the_radical(text, cleaned):
    assert clean_definition(text) == cleaned


def test_radicals_are_unified_ideographs():
    assert [radical_of(number) for number in ("1.0", "85.5", "149'.3", "214.5")] == ["一", "水", "言", "龠"]


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ("bā zhā yā wā", "a a ia ua"),
        ("jū yù nǚ lü", "ü ü ü ü"),
        ("yuán juǎn", "üan üan"),
        ("yún xùn", "ün ün"),
        ("shuǐ wèi duì", "ui ui ui"),
        ("wén lùn", "un un"),
        ("yī yīn yíng", "i in ing"),
        ("yǒu liú yáng yǒng", "iu iu iang iong"),
        ("wēng néng chòng", "ueng eng ong"),
        ("wú lǘ ān ér", "u ü an er"),
    ],
)
def test_finals_are_sounds_not_spelling(readings, expected):
    assert " ".join(map(final_of, readings.split())) == expected


def test_families_join_variants_through_characters_that_are_not_chosen():
    database = {
        "马": {"kTraditionalVariant": "U+99AC", "kDefinition": "horse"},
        "馬": {"kSimplifiedVariant": "U+9A6C", "kDefinition": "a horse"},
        "亘": {"kDefinition": "extend"},
        "亙": {"kDefinition": "extend"},
        "台": {"kSemanticVariant": "U+81FA<kMatthews", "kDefinition": "platform"},
        "臺": {"kSimplifiedVariant": "U+53F0 U+53F1"},
        "叱": {"kDefinition": "scold"},
    }
    chosen = ["马", "馬", "亘", "亙", "台", "叱"]
    groups = group_variants(chosen, database)
    assert set(groups) == set(chosen)
    assert groups["马"] == groups["馬"]
    assert groups["亘"] == groups["亙"]
    assert groups["台"] == groups["叱"]  # both are variants of 臺, which is not chosen
    assert len(set(groups.values())) == 3
    assert group_variants(chosen[::-1], dict(reversed(database.items()))) == groups
