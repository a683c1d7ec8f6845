/** Constants of Python, in the golden numbers. */

import { readFileSync } from "node:fs";
import type { FinderSettings, Schema } from "../src/settings";

const golden = JSON.parse(readFileSync(new URL("./golden.json", import.meta.url), "utf8"));
export const DETECTOR: FinderSettings = golden.detector;
export const IBUG68: Schema = golden.schema;
