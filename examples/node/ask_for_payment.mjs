// Ask for a payment and show what the customer has to do:
// node ask_for_payment.mjs ORDER AMOUNT PHONE

import { send } from "./integrationd.mjs";

const [order, amount, phone] = process.argv.slice(2);
const call = await send(`order-${order}-payment`, {
  operation: "payment.initiate",
  payload: { amount, currency: "KES", customer: { phone }, account: `order${order}` },
  reference: { type: "order", id: order },
});
if (call.state === "waiting") {
  console.log(call.result.redirect_url ?? call.result.instructions);
}
// When the money is there, a payment.succeeded event comes: see receive_events.mjs.
console.log(call.id, call.state, call.detail ?? "");
