// An auth policy that maps the groups in an institution's OpenID tokens to collections and administrators.
//
// This file is what the host sees: the two interfaces that the world `auth-policy` exports. What they decide is in
// groups.js (who somebody is) and rules.js (what they may do), which know nothing of WebAssembly, so that node can test
// them. What is thrown here as a plain value is the error of the contract; an Error is a fault, and fails closed.

import { identify } from './groups.js';
import { authorize } from './rules.js';
import { readSettings } from './settings.js';

// Without settings nobody is recognised. `configure` fills it in, once; every call starts from there.
let settings = readSettings('{}');

export const lifecycle = {
  describe() {
    return {
      name: 'groups-js',
      version: '0.1.0',
      summary: 'Maps the groups of OpenID tokens to collections and administrators',
    };
  },

  configure(text) {
    settings = readSettings(text);
  },
};

export const policy = {
  identify(claims) {
    return identify(claims, settings);
  },

  authorize(user, action) {
    const denial = authorize(user, action);
    if (denial !== undefined) {
      throw denial;
    }
  },
};
