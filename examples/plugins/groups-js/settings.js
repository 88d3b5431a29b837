// The operator's settings. What is wrong with them is thrown as a string, which the operator gets to read.

const KEYS = ['groups-claim', 'id-claim', 'admins', 'collections'];

/// Reads settings from JSON. `collections` becomes a Map, so that a group named `constructor` is nothing special.
export function readSettings(text) {
  const given = JSON.parse(text);
  if (!isRecord(given)) {
    throw 'settings have to be a mapping';
  }
  for (const key of Object.keys(given)) {
    if (!KEYS.includes(key)) {
      throw `unknown key \`${key}\`; there are ${KEYS.map((known) => `\`${known}\``).join(', ')}`;
    }
  }
  return {
    groupsClaim: name(given, 'groups-claim', 'groups'),
    idClaim: name(given, 'id-claim', 'id'),
    admins: new Set(names(given.admins ?? [], '`admins`')),
    collections: mapping(given.collections ?? {}),
  };
}

function isRecord(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function name(given, key, byDefault) {
  const value = given[key] ?? byDefault;
  if (typeof value !== 'string' || value === '') {
    throw `\`${key}\` has to be the name of a claim`;
  }
  return value;
}

function names(value, what) {
  if (!Array.isArray(value) || value.some((one) => typeof one !== 'string' || one === '')) {
    throw `${what} has to be a list of names`;
  }
  return value;
}

function mapping(value) {
  if (!isRecord(value)) {
    throw '`collections` has to be a mapping from groups to collections';
  }
  return new Map(
    Object.entries(value).map(([group, collections]) => [
      group,
      names(typeof collections === 'string' ? [collections] : collections, `\`collections\`: \`${group}\``),
    ]),
  );
}
