// {{summary}}.
//
// It stands behind another policy: it knows nobody, and allows whatever it isn't about. This file is what the host sees;
// what it decides is in rules.js, which knows nothing of WebAssembly, so that node can test it. See wit/README.md.

import { decide, readSettings } from './rules.js';

// Filled in once, by `configure`; every call starts from there.
let settings = readSettings('{}');

export const lifecycle = {
  describe() {
    return {
      name: '{{name}}',
      version: '0.1.0',
      summary: '{{summary}}',
    };
  },

  // What is thrown as a plain value is the error of the contract; an Error would be a fault.
  configure(text) {
    settings = readSettings(text);
  },
};

export const policy = {
  identify(claims) {
    return undefined;
  },

  authorize(user, action, circumstances) {
    const denial = decide(settings, user, action);
    if (denial !== undefined) {
      throw denial;
    }
  },
};
