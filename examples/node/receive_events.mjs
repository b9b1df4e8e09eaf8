// Receive events as signed webhooks (Standard Webhooks): WEBHOOK_SECRET=whsec_... node
// receive_events.mjs PORT

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const port = Number(process.argv[2] ?? 8080);
const secret = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
const toleranceS = 300;
const mostBytes = 1024 * 1024;

function isGenuine(headers, body) {
  const id = headers["webhook-id"] ?? "";
  const timestamp = headers["webhook-timestamp"] ?? "";
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > toleranceS) {
    return false;
  }
  const wanted = createHmac("sha256", secret).update(`${id}.${timestamp}.`).update(body).digest();
  // There are several signatures while the secret is being replaced; one that fits is enough.
  return (headers["webhook-signature"] ?? "").split(" ").some((one) => {
    const [version, text = ""] = one.split(",", 2);
    const shown = Buffer.from(text, "base64");
    return version === "v1" && shown.length === wanted.length && timingSafeEqual(shown, wanted);
  });
}

createServer(async (request, response) => {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > mostBytes) return response.writeHead(413).end();
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  if (!isGenuine(request.headers, body)) return response.writeHead(401).end();
  const event = JSON.parse(body);
  // An event may come twice, with the same webhook-id: remember those that you have dealt with.
  console.log(request.headers["webhook-id"], event.type, JSON.stringify(event.data));
  response.writeHead(204).end();
}).listen(port, "127.0.0.1");
