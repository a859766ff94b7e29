const path = require('node:path'); exports.handler = async () => path.basename(__filename);
