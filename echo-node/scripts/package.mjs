// Packs what `npm install` takes: the package with the addon of this machine in it, and beside it the
// package of the platform alone, as a registry would hold them: `node scripts/package.mjs FOLDER`.

import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const { platform } = require("../lib/platform.cjs");

const folder = fileURLToPath(new URL("..", import.meta.url));
const target = resolve(process.argv[2] ?? folder);
const addon = `echo-asr.${platform()}.node`;
const platformFolder = join(folder, "npm", platform());
if (!existsSync(join(folder, addon))) throw new Error(`${addon} is missing: npm run build`);
mkdirSync(target, { recursive: true });
const pack = (cwd) =>
  execFileSync("npm", ["pack", "--pack-destination", target], { cwd, encoding: "utf8" });
process.stdout.write(pack(folder));
if (existsSync(platformFolder)) {
  copyFileSync(join(folder, addon), join(platformFolder, addon));
  process.stdout.write(pack(platformFolder));
}
