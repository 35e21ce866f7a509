"use strict";
// JSON writes `snake_case`, JavaScript `camelCase`; both ways, at any depth, without a table.

const toCamel = (name) => name.replace(/_([a-z0-9])/g, (_, letter) => letter.toUpperCase());
const toSnake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function renamed(value, rename) {
  if (Array.isArray(value)) return value.map((item) => renamed(item, rename));
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).filter(([, member]) => member !== undefined);
  return Object.fromEntries(entries.map(([name, member]) => [rename(name), renamed(member, rename)]));
}

module.exports = {
  toSnake,
  camelCased: (value) => renamed(value, toCamel),
  snakeCased: (value) => renamed(value, toSnake),
};
