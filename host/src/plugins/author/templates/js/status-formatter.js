// {{summary}}.
//
// A formatter leaves to the next one what it has no words for. This file is what the host sees; the words are in
// rules.js, which knows nothing of WebAssembly, so that node can test it. See wit/README.md.

import { readSettings, word } from './rules.js';

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

export const formatter = {
  format(event) {
    return word(settings, event.what);
  },
};
