// What the plugin decides. Names are those of wit/, in camelCase; an enum is a string.

/** Reads the operator's settings; throws a sentence for the operator. */
export function readSettings(text) {
  const settings = { maxShells: 5 };
  for (const [key, value] of Object.entries(JSON.parse(text))) {
    if (key !== 'max-shells') {
      throw `unknown setting "${key}"; there is "max-shells"`;
    }
    if (!Number.isInteger(value) || value < 0) {
      throw '"max-shells" has to be a whole number';
    }
    settings.maxShells = value;
  }
  return settings;
}

/** The rejection, or undefined where the command is valid. */
export function check(settings, command, openShells) {
  if (command.kind !== 'open-shell' || openShells < settings.maxShells) {
    return undefined;
  }
  return {
    code: 'shell-limit',
    rule: 'max-shells',
    message: `You have ${openShells} shells open, and may have ${settings.maxShells}: close one first`,
  };
}
