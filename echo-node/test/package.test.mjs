// The package as users get it: packed, installed in an empty folder without a compiler, typed.

import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { root, run } from "./support.mjs";

const require = createRequire(import.meta.url);
let folder;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "echo-"));
  const packed = await run(process.execPath, ["scripts/package.mjs", folder]);
  assert.equal(packed.code, 0, packed.stderr);
  await writeFile(join(folder, "package.json"), '{ "private": true }');
  const tarball = (await readdir(folder)).find((name) => /^echo-asr-\d.*\.tgz$/.test(name));
  const install = ["install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", `./${tarball}`];
  const installed = await run("npm", install, { cwd: folder });
  assert.equal(installed.code, 0, installed.stderr);
});

after(() => rm(folder, { recursive: true, force: true }));

test("import and require give the same", async () => {
  const names = "Object.keys(echo).filter((k) => k !== 'default').sort().join()";
  const esm = await run(
    process.execPath,
    ["--input-type=module", "-e", `import * as echo from "echo-asr"; console.log(${names})`],
    { cwd: folder },
  );
  const cjs = await run(
    process.execPath,
    ["-e", `const echo = require("echo-asr"); console.log(${names})`],
    { cwd: folder },
  );
  assert.equal(esm.code, 0, esm.stderr);
  assert.equal(esm.stdout.trim(), "EchoError,Transcriber,Transcript,diarize,loadAudio,models");
  assert.equal(cjs.stdout, esm.stdout);
});

test("the command is on the path of npx", async () => {
  const shown = await run("npx", ["--offline", "echo-asr", "devices"], { cwd: folder });
  assert.match(shown.stdout, /^cpu/, shown.stderr);
});

test("every option of the core has a type", async () => {
  const { optionNames } = require("../lib/native.cjs");
  const { camelCased } = require("../lib/names.cjs");
  const types = await readFile(join(root, "lib", "index.d.cts"), "utf8");
  for (const name of optionNames().filter((name) => name !== "decode")) {
    const [camel] = Object.keys(camelCased({ [name]: 0 }));
    assert.match(types, new RegExp(`^  ${camel}\\?: `, "m"), camel);
  }
});

test("the package of the platform holds the addon", async () => {
  const { platform } = require("../lib/platform.cjs");
  const { size } = await stat(join(root, `echo-asr.${platform()}.node`));
  assert.ok(size > 1e6);
  assert.ok((await readdir(folder)).some((name) => name.startsWith(`echo-asr-${platform()}-`)));
});

test("a user's files pass strict TypeScript", async (context) => {
  // ECHO_TEST_NODE_MODULES: where `typescript` and `@types/node` are installed.
  const modules = process.env.ECHO_TEST_NODE_MODULES;
  if (!modules) return context.skip("set ECHO_TEST_NODE_MODULES to a node_modules with typescript");
  await mkdir(join(folder, "src"), { recursive: true });
  for (const name of ["typed_user.ts", "typed_user.cts"]) {
    await copyFile(join(root, "test", name), join(folder, "src", name));
  }
  await writeFile(join(folder, "src", "package.json"), '{ "type": "module" }');
  const settings = {
    compilerOptions: {
      strict: true,
      noEmit: true,
      target: "es2022",
      lib: ["es2023", "esnext.disposable"],
      module: "nodenext",
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      types: ["node"],
      typeRoots: [join(modules, "@types")],
    },
    include: ["src"],
  };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify(settings));
  const compiler = join(modules, "typescript", "bin", "tsc");
  const compiled = await run(process.execPath, [compiler, "-p", folder], { cwd: folder });
  assert.equal(compiled.code, 0, compiled.stdout);
});
