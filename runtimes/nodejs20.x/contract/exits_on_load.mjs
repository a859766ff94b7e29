// A module that ends the process when it is loaded.

process.stdout.write('loading\n');
process.exit(3);
