"use strict";

/** Why Echo could not do what was asked; `code` is the same word in every language. */
class EchoError extends Error {
  constructor(message, code = "echo", options) {
    super(message, options);
    this.name = "EchoError";
    this.code = code;
  }
}

/** The error that the native half described as JSON. */
function fromJson(json) {
  const { code, message, path } = typeof json === "string" ? JSON.parse(json) : json;
  const error = new EchoError(message, code);
  if (path !== null && path !== undefined) error.path = path;
  return error;
}

/** An option that is not what it has to be. */
function optionError(option, value, expected) {
  return new EchoError(`option \`${option}\` is ${value}, expected ${expected}`, "option");
}

module.exports = { EchoError, fromJson, optionError };
