// A module that cannot be loaded: see runtimes/_contract/README.md.

class ContractError extends Error {
  name = 'ContractError';
}

function prepare() {
  throw new ContractError('not today');
}

process.stdout.write('loading\n');
prepare();
