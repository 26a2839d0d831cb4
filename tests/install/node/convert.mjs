// MJML on standard input, HTML on standard output.
import mjml2html from "mjml";
import { readFileSync } from "node:fs";

const { html, errors } = await mjml2html(readFileSync(0, "utf8"), { fonts: {}, validationLevel: "strict" });
if (errors.length) throw new Error(errors.map((error) => error.formattedMessage).join("\n"));
process.stdout.write(html);
