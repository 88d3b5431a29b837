// {{summary}}.
//
// A validator passes on what it has nothing to say about. This file is what the host sees; what it decides is in rules.js,
// which knows nothing of WebAssembly, so that node can test it. See wit/README.md.

import { check, readSettings } from './rules.js';

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

export const validator = {
  validate(command, context) {
    const rejection = check(settings, command, context.circumstances.openShells);
    if (rejection !== undefined) {
      throw rejection;
    }
    return command;
  },
};
