// What the examples share: one request to integrationd, repeated until there is an answer.

const url = process.env.INTEGRATIOND_URL ?? "http://127.0.0.1:8700";
const key = process.env.INTEGRATIOND_KEY ?? "";
const notNow = [429, 503, 507];
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** Hand a call over under a key: however often it is repeated, it is one call. */
export async function send(idempotencyKey, call, waitS = 10) {
  for (let left = 20; ; left--) {
    try {
      const answer = await fetch(`${url}/v1/calls`, {
        method: "POST",
        headers: {
          "Authorization": `Bearer ${key}`,
          "Content-Type": "application/json",
          "Idempotency-Key": idempotencyKey,
          "Prefer": `wait=${waitS}`,
        },
        body: JSON.stringify(call),
        signal: AbortSignal.timeout((waitS + 30) * 1000),
      });
      const told = await answer.json();
      if (answer.ok) return told;
      if (!notNow.includes(answer.status) || left === 0) {
        throw Object.assign(new Error(`${told.code}: ${told.detail}`), { isFinal: true });
      }
      await pause(Number(answer.headers.get("Retry-After") ?? 1));
    } catch (error) {
      // No answer at all: the daemon may be restarting.
      if (error.isFinal || left === 0) throw error;
      await pause(1);
    }
  }
}
