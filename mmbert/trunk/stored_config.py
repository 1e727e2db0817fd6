"""The configuration of a trunk in a model folder that may come from a stranger: only known keys, of bounded size."""

from typing import Any

from mmbert.errors import IntegrityError

# keys by which the library would load code or kernels, or convert weights
FORBIDDEN = frozenset(
    {
        *("auto_map", "trust_remote_code", "custom_pipelines", "quantization_config", "kernel_config"),
        *("attn_implementation", "experts_implementation", "use_kernels", "base_model_tp_plan", "base_model_pp_plan"),
    }
)
MOST = {"vocab_size": 10_000_000, "num_hidden_layers": 200}  # the highest value of a key
MOST_OF_OTHERS = 1_000_000
DEEPEST = 4  # nested lists and objects


def check_stored_config(config: Any, where: str) -> dict[str, Any]:
    """Check the configuration of a trunk, and leave out what its class does not know.

    Args:
        config: as it was stored.
        where: the file, for messages.

    Returns:
        The keys that the class has, without the path that the trunk was once loaded from.

    Raises:
        IntegrityError: on another type of content, an unknown architecture, a key that could load code, and a number
            outside of its bounds.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    if not isinstance(config, dict):
        raise IntegrityError(
            f"'{where}': expected the trunk's configuration as an object, found {type(config).__name__}"
        )
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise IntegrityError(f"'{where}': the trunk's architecture {str(kind)[:40]!r} is unknown to transformers")
    forbidden = sorted(
        key for key in config if str(key).lower().strip("_") in FORBIDDEN or "_implementation" in str(key)
    )
    if any(config[key] is not None for key in forbidden):
        raise IntegrityError(f"'{where}': the trunk's configuration must not choose code or kernels: {forbidden[0]!r}")
    known = AutoConfig.for_model(kind).to_dict()
    allowed = {key: value for key, value in config.items() if key in known and key not in forbidden}
    for key, value in allowed.items():
        _check_value(key, value, where, DEEPEST)
    return {**allowed, "_name_or_path": ""}


def _check_value(key: str, value: Any, where: str, depth: int) -> None:
    if isinstance(value, dict | list):
        if depth == 0:
            raise IntegrityError(f"'{where}': trunk.{key} is nested too deeply")
        for item in value.values() if isinstance(value, dict) else value:
            _check_value(key, item, where, depth - 1)
    most = MOST.get(key, MOST_OF_OTHERS)
    if isinstance(value, int | float) and not abs(value) <= most:  # NaN too
        raise IntegrityError(f"'{where}': trunk.{key} must be at most {most}, found {float(value):g}")
    if isinstance(value, str) and len(value) > 1000:
        raise IntegrityError(f"'{where}': trunk.{key} has {len(value)} characters")
