// Compose, sign and send an issue to many subscribers with nodemailer, as its documentation shows; print the seconds.
// The argument is a JSON file: port, connections, number, html, text, subject, base, domain, selector, key.
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import nodemailer from "nodemailer";

const job = JSON.parse(readFileSync(process.argv[2]));
const pool = nodemailer.createTransport({
  pool: true, host: "127.0.0.1", port: job.port, secure: false, ignoreTLS: true,
  maxConnections: job.connections, maxMessages: Infinity,
  ...(job.key ? { dkim: { domainName: job.domain, keySelector: job.selector, privateKey: job.key } } : {}),
});

// Split once: every other piece is an expression.
const pieces = (template) => template.split(/\{\{(.*?)\}\}/s);
const [html, text] = [pieces(job.html), pieces(job.text)];

function filled(template, name, token) {
  return template.map((piece, at) => {
    if (at % 2 === 0) return piece;
    const url = piece.match(/urls\.(\w+)/);
    return url ? `${job.base}/${url[1][0]}/${token}` : piece.includes("subscriber.name") ? name : "";
  }).join("");
}

async function send(number) {
  const address = `reader${number}@example.com`;
  const token = createHmac("sha256", "a secret for this benchmark only").update(`1/${number}`).digest("hex").slice(0, 34);
  const unsubscribe = `${job.base}/u/${token}`;
  await pool.sendMail({
    envelope: { from: `b.${token}@${job.domain}`, to: [address] },
    from: { name: "The Week", address: `ana@${job.domain}` },
    to: { name: `Reader ${number}`, address },
    subject: job.subject,
    messageId: `<${token}@${job.domain}>`,
    headers: {
      "List-Unsubscribe": `<${unsubscribe}>, <mailto:unsubscribe@${job.domain}?subject=${token}>`,
      "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
      "Feedback-ID": "001-bench:all:weekly:exampleorg",
    },
    html: filled(html, `Reader ${number}`, token),
    text: filled(text, `Reader ${number}`, token),
  });
}

let next = 0;
async function lane() {
  while (next < job.number) await send(next++);
}
const began = process.hrtime.bigint();
// Twice as many at a time as connections, so that none waits for a message to be composed.
await Promise.all(Array.from({ length: 2 * job.connections }, lane));
console.log(Number(process.hrtime.bigint() - began) / 1e9);
pool.close();
