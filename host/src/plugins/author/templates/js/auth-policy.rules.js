// What the plugin decides. Names are those of wit/, in camelCase; a variant is { tag, val }, an enum a string.

/** Reads the operator's settings; throws a sentence for the operator. */
export function readSettings(text) {
  const settings = { protected: ['exam'] };
  for (const [key, value] of Object.entries(JSON.parse(text))) {
    if (key !== 'protected') {
      throw `unknown setting "${key}"; there is "protected"`;
    }
    if (!Array.isArray(value) || value.some((name) => typeof name !== 'string')) {
      throw '"protected" has to be a list of names of collections';
    }
    settings.protected = value;
  }
  return settings;
}

/** The denial, or undefined where it is allowed. */
export function decide(settings, user, action) {
  if (action.tag !== 'command' || user.admin) {
    return undefined;
  }
  const { kind, lab } = action.val;
  const changes = kind === 'deploy' || kind === 'destroy';
  if (!changes || !settings.protected.includes(lab.collection.name)) {
    return undefined;
  }
  return {
    rule: 'protected',
    message: `Only administrators may do this with labs of the collection ${lab.collection.name}`,
  };
}
