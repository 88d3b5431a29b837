// What the plugin says. Names are those of wit/, in camelCase; a variant is { tag, val }, an enum a string.

/** Reads the operator's settings; throws a sentence for the operator. */
export function readSettings(text) {
  const settings = { deployed: '{lab} is ready' };
  for (const [key, value] of Object.entries(JSON.parse(text))) {
    if (key !== 'deployed') {
      throw `unknown setting "${key}"; there is "deployed"`;
    }
    if (typeof value !== 'string') {
      throw '"deployed" has to be a text';
    }
    settings.deployed = value;
  }
  return settings;
}

/** The message, or undefined where there are no words for what happened. */
export function word(settings, what) {
  if (what.tag !== 'lab-deployed') {
    return undefined;
  }
  const { lab } = what.val;
  const content = settings.deployed.replaceAll('{lab}', () => lab.name);
  return { source: 'Lab Manager', content, logContent: `${content} (lab ${lab.id})`, severity: 'success' };
}
