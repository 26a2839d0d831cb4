// A message on standard input; what mailparser reads in it, as JSON.
import { simpleParser } from "mailparser";
import { readFileSync } from "node:fs";

const read = await simpleParser(readFileSync(0), { keepCidLinks: true, skipTextToHtml: true });
process.stdout.write(
  JSON.stringify({
    subject: read.subject,
    from: read.from.value,
    to: read.to.value,
    text: read.text,
    html: read.html,
    date: read.date.toISOString(),
    message_id: read.messageId,
    headers: Object.fromEntries(read.headerLines.map(({ key, line }) => [key, line])),
    attachments: read.attachments.map((part) => ({
      cid: part.cid,
      type: part.contentType,
      disposition: part.contentDisposition,
      name: part.filename ?? null,
      content: part.content.toString("base64"),
    })),
  }),
);
