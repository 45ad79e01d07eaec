// What is written for people and for the type checker is held against the package itself.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import * as majordomo from 'majordomo';

const require = createRequire(import.meta.url);
const folder = new URL('..', import.meta.url);
const read = (name) => readFile(new URL(name, folder), 'utf8');

/** What the declarations promise: for each name, the static members and the members of instances, if it is a class. */
async function declared() {
  const ts = require('typescript');
  const source = ts.createSourceFile('index.d.ts', await read('index.d.ts'), ts.ScriptTarget.Latest);
  const found = new Map();
  for (const statement of source.statements) {
    if (ts.isClassDeclaration(statement)) {
      const members = statement.members.filter((member) => member.name !== undefined);
      const isStatic = (member) => member.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.StaticKeyword) ?? false;
      const names = (wanted) => new Set(members.filter((member) => isStatic(member) === wanted).map((member) => member.name.getText(source)));
      found.set(statement.name.text, { statics: names(true), members: names(false) });
    } else if (ts.isVariableStatement(statement)) {
      for (const { name } of statement.declarationList.declarations) found.set(name.text, undefined);
    }
  }
  return found;
}

test('the declarations name exactly what the package exports', async () => {
  assert.deepEqual([...(await declared()).keys()].sort(), Object.keys(majordomo).sort());
});

test('every declared member exists and every member is declared', async () => {
  // Node 20 calls its own `Symbol.asyncDispose` by another description.
  const known = new Map(['asyncDispose', 'asyncIterator'].map((name) => [Symbol[name], `[Symbol.${name}]`]));
  const shown = (key) => known.get(key) ?? String(key);
  const hidden = new Set(['constructor', 'name']);
  const own = (object, without) => Reflect.ownKeys(object).map(shown).filter((key) => !without.has(key));
  for (const [name, promised] of await declared()) {
    if (promised === undefined) continue;
    const real = majordomo[name];
    const statics = new Set(own(real, new Set(['length', 'name', 'prototype'])));
    assert.deepEqual([...statics].sort(), [...promised.statics].sort(), `static members of ${name}`);
    if (real.prototype instanceof Error) continue; // Their members are properties of each error: see error.test.mjs.
    // `closed` and the like are accessors of the prototype as well.
    assert.deepEqual(own(real.prototype, hidden).sort(), [...promised.members].sort(), `members of ${name}`);
  }
});

test('the table of failures is in the declarations and in the README', async () => {
  const [types, readme] = await Promise.all([read('index.d.ts'), read('README.md')]);
  for (const { code, kind } of majordomo.errorKinds) {
    assert.ok(types.includes(`| '${code}'`) && types.includes(`| '${kind}'`), code);
    assert.ok(readme.includes(`| \`${code}\` | \`${kind}\` |`), code);
  }
});

test('the first program of the README does what it says', async () => {
  const [, source] = (await read('README.md')).match(/## First program\n\n```js\n(.*?)```/s);
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', source], {
    cwd: fileURLToPath(folder),
  });
  assert.equal(stdout, 'hello\n');
});
