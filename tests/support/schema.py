"""Which keys a JSON document has, and of which types."""

NUMBER = (int, float)


class OPTIONAL:
    """A value that may be null."""

    def __init__(self, schema):
        self.schema = schema


def check(value, schema, where="document"):
    """A dict: exactly these keys; [schema]: a list of such; else a type."""
    if isinstance(schema, OPTIONAL):
        if value is not None:
            check(value, schema.schema, where)
    elif isinstance(schema, dict):
        assert isinstance(value, dict), where
        assert set(value) == set(schema), where
        for key, part in schema.items():
            check(value[key], part, f"{where}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), where
        for i, part in enumerate(value):
            check(part, schema[0], f"{where}[{i}]")
    else:
        assert isinstance(value, schema), (where, value)
        assert not isinstance(value, bool), where
