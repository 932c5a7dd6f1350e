// What the page asks of its server: JSON, files, and events as they come. With a token, every request carries it.

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

let asking = null;

// Ask the reader for the token, once for all that wait for it.
function askToken() {
  const dialog = document.getElementById("ask");
  asking ??= new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("token", document.getElementById("token").value);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

// A request; what the server refuses, and a server that is not there (status 0), are thrown as Refused.
export async function ask(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem("token");
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, "The server does not answer.");
    }
    if (answer.status === 401) { await askToken(); continue; }
    if (answer.ok) return answer;
    const said = await answer.json().catch(() => null);
    throw new Refused(answer.status, said?.error?.message ?? `The server answers ${answer.status}.`);
  }
}

export const getJson = async (path) => (await ask(path)).json();

// The events of a video, one after the other, until the server ends them, or the signal does.
export async function* events(id, signal) {
  let reader;
  for (let text = ""; ;) {
    let part;
    try {
      reader ??= (await ask(`v1/videos/${id}/events`, { signal })).body.pipeThrough(new TextDecoderStream()).getReader();
      part = await reader.read();
    } catch (error) {
      if (signal.aborted) return;
      throw error instanceof Refused ? error : new Refused(0, "The server does not answer.");
    }
    if (part.done) return;
    text += part.value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const lines = text.slice(0, end).split("\n").filter((line) => !line.startsWith(":"));
      const event = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
      if (event.event) yield { kind: event.event, data: JSON.parse(event.data) };
    }
  }
}
