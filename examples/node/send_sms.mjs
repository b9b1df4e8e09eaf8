// Send an SMS and wait for the result: node send_sms.mjs ORDER PHONE MESSAGE

import { send } from "./integrationd.mjs";

const [order, phone, message] = process.argv.slice(2);
const call = await send(`order-${order}-sms`, {
  operation: "sms.send",
  payload: { to: phone, message },
  reference: { type: "order", id: order },
});
console.log(call.id, call.state, call.detail ?? "");
