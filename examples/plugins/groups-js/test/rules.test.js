import assert from 'node:assert/strict';
import test from 'node:test';

import { authorize } from '../rules.js';

const course = { id: 'c-1', name: 'course', publicWrite: true, publicDeploy: true, creator: 'root' };
const closed = { ...course, publicWrite: false, publicDeploy: false };
const node = (...demands) => ({ name: 'r1', kind: 'linux', state: 'absent', demands });
const lab = { id: 'l-1', name: 'ospf', topologyId: 't-1', collection: course, creator: 'ada', nodes: [node()] };
const topology = { id: 't-1', name: 'ospf', collection: course, creator: 'ada', nodes: [node()] };
const shell = { id: 's-1', labId: 'l-1', node: 'r1', owner: 'ada' };
const bind = { tag: 'bind', val: '/etc:/mnt' };
const port = { tag: 'port', val: '80:80' };

const ada = { id: 'ada', admin: false, collections: ['course'] };
const bob = { ...ada, id: 'bob' };
const outsider = { ...ada, collections: [] };
const root = { id: 'root', admin: true, collections: [] };

const command = (kind, more = {}) => ({ tag: 'command', val: { kind, lab, ...more } });
const action = (tag, val) => ({ tag, val });
const change = (tag, before, after) => ({ tag, val: { before, after } });
const ACTIONS = [
  ...['deploy', 'destroy', 'stop-node', 'start-node', 'restart-node', 'list-shells', 'open-shell'].map((kind) =>
    command(kind),
  ),
  action('view-lab', lab),
  action('create-lab', lab),
  change('update-lab', lab, lab),
  action('delete-lab', lab),
  action('view-topology', topology),
  action('create-topology', topology),
  change('update-topology', topology, topology),
  action('delete-topology', topology),
  action('view-collection', course),
  action('create-collection', course),
  change('update-collection', course, course),
  action('delete-collection', course),
  action('connect', action('lab-log', lab)),
  action('connect', action('node-log', { lab, node: 'r1' })),
  action('connect', action('shell', { shell, lab })),
];

const may = (user, what) => assert.equal(authorize(user, what), undefined, `${user.id}: ${what.tag}`);
const mayNot = (user, what, rule) => assert.equal(authorize(user, what)?.rule, rule, `${user.id}: ${what.tag}`);

test('an administrator may do everything', () => {
  ACTIONS.forEach((what) => may(root, what));
});

test('somebody outside of the collection may do nothing in it, be it their own', () => {
  for (const what of ACTIONS) {
    assert.notEqual(authorize(outsider, what), undefined, what.tag);
  }
});

test('a creator commands, changes and deletes; other members look on', () => {
  for (const kind of ['deploy', 'destroy', 'stop-node', 'start-node', 'restart-node']) {
    may(ada, command(kind));
    mayNot(bob, command(kind), 'creator-only');
  }
  for (const what of [change('update-lab', lab, lab), action('delete-lab', lab), action('delete-topology', topology)]) {
    may(ada, what);
    mayNot(bob, what, 'creator-only');
  }
  for (const what of [action('view-lab', lab), action('view-topology', topology), command('open-shell')]) {
    may(bob, what);
  }
});

test('shells are their owners’ alone, and can be closed from outside', () => {
  may(outsider, command('close-shell', { shell }));
  mayNot(bob, command('close-shell', { shell }), 'own-shells-only');
  mayNot(ada, command('close-shell'), 'own-shells-only');
  may(ada, action('connect', action('shell', { shell, lab })));
  mayNot(bob, action('connect', action('shell', { shell, lab })), 'own-shells-only');
});

test('everybody connects to what is sent to each person by itself', () => {
  for (const tag of ['lab-commands', 'lab-updates', 'status-messages', 'shell-commands']) {
    may(outsider, action('connect', { tag }));
  }
});

test('a collection says whether its members may create', () => {
  mayNot(ada, action('create-lab', { ...lab, collection: closed }), 'public-deploy');
  mayNot(ada, action('create-topology', { ...topology, collection: closed }), 'public-write');
  const elsewhere = { ...topology, collection: { ...closed, id: 'c-2' } };
  mayNot(ada, change('update-topology', topology, elsewhere), 'public-write');
  mayNot(ada, change('update-lab', lab, { ...lab, topologyId: 't-2', collection: closed }), 'public-deploy');
});

test('what reaches into the machine is for administrators, whichever way it would be deployed', () => {
  const reaching = { ...lab, nodes: [node(), node(port, bind)] };
  for (const what of [
    command('deploy', { lab: reaching }),
    action('create-lab', reaching),
    change('update-lab', lab, reaching),
    change('update-lab', lab, { ...reaching, topologyId: 't-2' }),
    change('update-topology', topology, { ...topology, nodes: reaching.nodes }),
  ]) {
    mayNot(ada, what, 'host-access');
  }
  may(ada, command('deploy', { lab: { ...lab, nodes: [node(port)] } }));
});

test('what nobody has thought about yet is not allowed', () => {
  mayNot(ada, action('dance', {}), 'unknown-action');
  mayNot(ada, action('constructor', {}), 'unknown-action');
  mayNot(ada, command('dance'), 'unknown-command');
  mayNot(ada, action('connect', { tag: 'dance' }), 'unknown-namespace');
});
