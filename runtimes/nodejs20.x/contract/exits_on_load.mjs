// A module that ends the process when it is loaded.

console.log('loading');
process.exit(3);
