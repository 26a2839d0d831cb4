// Send one constant message over nodemailer's pool; print the seconds it took.
import { readFileSync } from "node:fs";
import nodemailer from "nodemailer";

const [port, content, number, connections] = process.argv.slice(2);
const raw = readFileSync(content);
const pool = nodemailer.createTransport({
  pool: true, host: "127.0.0.1", port: Number(port), secure: false, ignoreTLS: true,
  maxConnections: Number(connections), maxMessages: Infinity,
});
const envelope = { from: "b@example.org", to: ["r@example.com"] };
const began = process.hrtime.bigint();
await Promise.all(Array.from({ length: Number(number) }, () => pool.sendMail({ envelope, raw })));
console.log(Number(process.hrtime.bigint() - began) / 1e9);
pool.close();
