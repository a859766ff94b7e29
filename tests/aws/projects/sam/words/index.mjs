// Modules of both kinds out of node_modules.
import _ from 'lodash';
import { v5 as uuid, validate } from 'uuid';

export const handler = async (event) => ({
  groups: _.groupBy(event.words, 'length'),
  id: uuid(event.name, uuid.URL),
  valid: validate(uuid(event.name, uuid.URL)),
});
