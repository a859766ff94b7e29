"""A module that cannot be loaded: see runtimes/_contract/README.md."""


class ContractError(Exception):
    pass


def prepare():
    raise ContractError("not today")


print("loading")
prepare()
