"use strict";
// The models known by name, and those on this machine.

const { finished } = require("./jobs.cjs");
const { camelCased } = require("./names.cjs");
const native = require("./native.cjs");

const answer = async (start, options) => camelCased((await finished(start, options)).value);

module.exports = {
  /** Every model known by name. */
  catalog: () => camelCased(JSON.parse(native.catalog())),
  /** The models in the store. */
  list: ({ cache } = {}) => answer(() => native.listModels(cache)),
  /** Where a model is; downloads nothing. */
  path: (name, { cache } = {}) => answer(() => native.modelPath(name, cache)),
  /** The model, downloaded if it is not here. */
  pull: (name, { cache, offline, ...options } = {}) =>
    answer(() => native.pull(name, cache, offline), options),
  /** Reads all files of a model and compares them with their hashes. */
  verify: async (name, { cache, ...options } = {}) => {
    await answer(() => native.verify(name, cache), options);
  },
  /** Deletes a model from the store; says whether it was there. */
  remove: (name, { cache } = {}) => answer(() => native.remove(name, cache)),
};
