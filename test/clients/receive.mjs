// A consumer under development, for `renewals watch --forward-to`: reads what is posted by CloudEvents' own SDK, and prints it.
// usage: node receive.mjs; the first line is its URL, each further one an event. The first request is answered 503.
import { createServer } from "node:http";
import { HTTP } from "cloudevents";

let requests = 0;
const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    if (requests++ === 0) return response.writeHead(503).end();
    try {
      const event = HTTP.toEvent({ headers: request.headers, body: Buffer.concat(chunks).toString() });
      event.validate();
      console.log(JSON.stringify(event));
      response.writeHead(204).end();
    } catch (e) {
      console.log(JSON.stringify({ error: e.message }));
      response.writeHead(400).end(e.message);
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/results`));
