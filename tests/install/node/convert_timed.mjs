// {mjml, body, mark, css, rounds} as JSON on standard input; the median milliseconds of mjml and juice.
import juice from "juice";
import mjml2html from "mjml";
import { readFileSync } from "node:fs";

const { mjml, body, mark, css, rounds } = JSON.parse(readFileSync(0, "utf8"));
const taken = [];
let inlined = "";
for (let round = 0; round < rounds; round++) {
  const began = performance.now();
  const { html } = await mjml2html(mjml, { fonts: {} });
  inlined = juice.inlineContent(html.replace(mark, () => body), css);
  taken.push(performance.now() - began);
}
taken.sort((a, b) => a - b);
process.stdout.write(JSON.stringify({ median_ms: taken[rounds >> 1], characters: inlined.length }));
