// A message on standard input, DNS as {name: TXT record} in the first argument; the verdicts as JSON.
import { dkimVerify } from "mailauth/lib/dkim/verify.js";
import { readFileSync } from "node:fs";

const records = JSON.parse(process.argv[2]);
const resolver = async (name, type) => {
  if (type === "TXT" && name in records) return [[records[name]]];
  throw Object.assign(new Error("no such name"), { code: "ENOTFOUND" });
};
const { results } = await dkimVerify(readFileSync(0), { resolver });
process.stdout.write(
  JSON.stringify(
    results.map((found) => ({
      result: found.status.result,
      domain: found.signingDomain,
      selector: found.selector,
      algorithm: found.algo,
      covers: found.signingHeaders.keys.toLowerCase().split(/\s*:\s*/),
    })),
  ),
);
