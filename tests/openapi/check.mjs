// SPDX-License-Identifier: MIT
// Checks the OpenAPI document on standard input; prints what is wrong with it, or its version.

import { readFileSync } from "node:fs";
import { Validator } from "@seriousme/openapi-schema-validator";

const validator = new Validator();
const found = await validator.validate(JSON.parse(readFileSync(0, "utf8")));
if (!found.valid) {
	console.log(JSON.stringify(found.errors, null, 1));
	process.exit(1);
}
console.log(validator.version);
