import assert from 'node:assert/strict';
import test from 'node:test';

import { identify } from '../groups.js';
import { readSettings } from '../settings.js';

const settings = readSettings(
  JSON.stringify({
    admins: ['netlab-admins'],
    collections: { 'cn1-students': 'course', staff: ['course', 'research'] },
  }),
);
const id = { name: 'id', value: { tag: 'text', val: 'ada' } };
const groups = (...names) => ({ name: 'groups', value: { tag: 'texts', val: names } });

test('groups become collections, each once', () => {
  const user = identify([id, groups('cn1-students', 'staff', 'choir')], settings);
  assert.deepEqual(user, { id: 'ada', admin: false, collections: ['course', 'research'] });
});

test('a group makes administrators, and nothing else does', () => {
  assert.equal(identify([id, groups('netlab-admins')], settings).admin, true);
  const claimed = { name: 'isAdmin', value: { tag: 'boolean', val: true } };
  const collections = { name: 'collections', value: { tag: 'texts', val: ['research'] } };
  assert.deepEqual(identify([id, claimed, collections, groups('choir')], settings), {
    id: 'ada',
    admin: false,
    collections: [],
  });
});

test('a group that is named like something of JavaScript is a group like any other', () => {
  const user = identify([id, groups('constructor', '__proto__', 'toString')], settings);
  assert.deepEqual(user, { id: 'ada', admin: false, collections: [] });
});

test('a single group may come as a text', () => {
  const claim = { name: 'groups', value: { tag: 'text', val: 'staff' } };
  assert.deepEqual(identify([id, claim], settings).collections, ['course', 'research']);
});

test('a token without groups is left to the next policy', () => {
  assert.equal(identify([id], settings), undefined);
});

test('groups that make no sense refuse the token', () => {
  for (const wrong of [
    [id, { name: 'groups', value: { tag: 'json', val: '[1]' } }],
    [id, { name: 'groups', value: { tag: 'boolean', val: true } }],
    [groups('staff')],
    [{ name: 'id', value: { tag: 'text', val: '' } }, groups('staff')],
    [{ name: 'id', value: { tag: 'integer', val: 7n } }, groups('staff')],
  ]) {
    assert.throws(() => identify(wrong, settings), { rule: 'claims-well-formed' });
  }
});

test('other claims can be named', () => {
  const other = readSettings('{"groups-claim": "roles", "id-claim": "sub", "collections": {"staff": "course"}}');
  const claims = [
    { name: 'sub', value: { tag: 'text', val: 'ada' } },
    { name: 'roles', value: { tag: 'texts', val: ['staff'] } },
  ];
  assert.deepEqual(identify(claims, other), { id: 'ada', admin: false, collections: ['course'] });
});

test('settings that are wrong are named', () => {
  for (const [text, names] of [
    ['{"admin": []}', '`admin`'],
    ['{"admins": "root"}', '`admins`'],
    ['{"collections": []}', '`collections`'],
    ['{"collections": {"staff": [1]}}', '`staff`'],
    ['{"groups-claim": ""}', '`groups-claim`'],
    ['[]', 'mapping'],
  ]) {
    assert.throws(
      () => readSettings(text),
      (thrown) => typeof thrown === 'string' && thrown.includes(names),
    );
  }
});
