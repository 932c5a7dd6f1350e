// The page: a form, a stage that shows one video as it is drawn, and the gallery of this session.

import { ask, events, getJson, Refused } from "./api.js";
import { readForm, fillForm, startForm } from "./form.js";

const $ = (id) => document.getElementById(id);
const KEY = "videos"; // of sessionStorage: ids of this session, oldest first
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const shown = new Map(); // id -> what the page knows of a video
let chosen = null; // the id on the stage

const remember = () => sessionStorage.setItem(KEY, JSON.stringify([...shown.keys()]));
const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

// ---------------------------------------------------------------- one video

function addCard(id) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  const entry = { id, card, video: null, frames: new Map(), address: null, info: null };
  const one = (name) => card.querySelector(name);
  one(".show").addEventListener("click", () => choose(id));
  one(".again").addEventListener("click", () => { if (entry.video) { fillForm(entry.video); $("prompt").focus(); } });
  one(".delete").addEventListener("click", () => remove(entry));
  shown.set(id, entry);
  remember();
  $("cards").prepend(card);
  $("gallery").hidden = false;
  return entry;
}

// Follow a video until it is finished; a server that is stopped in between goes on with it once it is started again.
// Only the one on the stage is watched frame by frame: a browser opens but six connections to a server.
async function follow(entry) {
  while (shown.has(entry.id)) {
    try {
      if (chosen === entry.id && !document.hidden) await watch(entry);
      else take(entry, await getJson(`v1/videos/${entry.id}`));
      if (finished(entry)) return load(entry);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 404) return forget(entry);
      say(entry, `${error.message} Trying again.`);
    }
    await Promise.race([wait(1), new Promise((resolve) => { entry.wake = resolve; })]);
  }
}

// Show the events of a video until it is finished, or `entry.leave` is called.
async function watch(entry) {
  const abort = new AbortController();
  entry.leave = () => abort.abort();
  for await (const { kind, data } of events(entry.id, abort.signal)) {
    if (kind === "deleted") return forget(entry);
    if (kind === "frames") for (const frame of data) entry.frames.set(frame.time, frame.image);
    if (kind === "video") take(entry, data);
    else if (entry.video) draw(entry);
  }
  if (!finished(entry) && !abort.signal.aborted) say(entry, "The server stopped; waiting for it to go on.");
}

function take(entry, video) {
  entry.video = video;
  if (shown.has(entry.id)) draw(entry);
}

const finished = ({ video }) => video?.status === "completed" || video?.status === "failed";

// Fetch what was made: the video and its json.
async function load(entry) {
  if (entry.video.status !== "completed") return;
  try {
    const [video, info] = await Promise.all(["video", "json"].map((kind) => ask(`v1/videos/${entry.id}/content?variant=${kind}`)));
    entry.address = URL.createObjectURL(await video.blob());
    entry.info = await info.text();
    await cut(entry);
  } catch (error) {
    return say(entry, error.message);
  }
  draw(entry);
}

async function remove(entry) {
  forget(entry);
  try {
    await ask(`v1/videos/${entry.id}`, { method: "DELETE" });
  } catch (error) {
    if (error.status !== 404) $("error").textContent = error.message; // 404: another tab was faster
  }
}

function forget(entry) {
  if (!shown.delete(entry.id)) return;
  const next = entry.card.nextElementSibling ?? entry.card.previousElementSibling;
  if (entry.card.contains(document.activeElement)) (next?.querySelector(".show") ?? $("prompt")).focus();
  entry.card.remove();
  if (entry.address) URL.revokeObjectURL(entry.address);
  remember();
  $("gallery").hidden = shown.size === 0;
  if (chosen === entry.id) choose([...shown.keys()].at(-1) ?? null);
}

// ---------------------------------------------------------------- what is seen of it

const facts = (video) => `${video.seconds} s · ${video.num_frames} frames · ${video.size} · seed ${video.seed}`;

function sentence(video) {
  if (video.status === "queued") return "It waits for its turn.";
  if (video.status === "in_progress") return `Drawing: ${video.progress} %.`;
  if (video.status === "failed") return `It failed: ${video.error.message}`;
  return `Done: ${video.num_frames} frames in ${video.seconds} s, ${video.fps} a second.`;
}

function draw(entry) {
  const { card, video, address, frames } = entry, one = (name) => card.querySelector(name);
  one(".prompt").textContent = video.prompt;
  one(".facts").textContent = video.status === "completed" ? facts(video) : `${sentence(video)} ${facts(video)}`;
  one(".notes").textContent = video.notes.map((note) => `Note: ${note}.`).join(" ");
  one(".delete").textContent = finished(entry) ? "Delete" : "Cancel";
  const film = one(".picture video");
  if (frames.has(0)) film.poster = frames.get(0);
  if (address && one(".download").hidden) {
    Object.assign(film, { src: address, preload: "none" });
    film.setAttribute("aria-label", video.prompt);
    card.addEventListener("pointerenter", () => { if (!calm.matches) film.play(); });
    card.addEventListener("pointerleave", () => film.load()); // back to its first frame
    Object.assign(one(".download"), { href: address, download: `${entry.id}.mp4`, hidden: false });
    one(".json").hidden = false;
    one("pre").textContent = entry.info;
  }
  if (chosen === entry.id) stage(entry);
}

function choose(id) {
  chosen = id;
  for (const entry of shown.values()) {
    entry.card.classList.toggle("chosen", entry.id === id);
    (entry.id === id ? entry.wake : entry.leave)?.();
  }
  $("live").hidden = $("video").hidden = $("progress").hidden = true;
  $("video").removeAttribute("src");
  $("empty").hidden = false;
  $("state").textContent = "";
  $("strip").replaceChildren();
  const entry = shown.get(id);
  if (entry?.video) stage(entry);
}

function say(entry, text) {
  if (chosen === entry.id) $("state").textContent = text;
  else entry.card.querySelector(".facts").textContent = text;
}

function stage(entry) {
  const { video, address, frames } = entry;
  $("state").textContent = sentence(video);
  Object.assign($("progress"), { value: video.progress, hidden: finished(entry) });
  $("empty").hidden = frames.size > 0 || address !== null;
  if (address && $("video").src !== address) {
    Object.assign($("video"), { src: address, hidden: false, autoplay: !calm.matches });
    $("video").setAttribute("aria-label", video.prompt);
    $("live").hidden = true;
  }
  play();
  strip(entry);
}

const keyframeTimes = ({ num_frames, levels, frame_rate }) =>
  Array.from({ length: (num_frames - 1) / 2 ** levels + 1 }, (_, number) => number / frame_rate);

// The keyframes: those that came, and places for those to come.
function strip({ video, frames }) {
  $("strip").replaceChildren(...keyframeTimes(video).map((time) => {
    const item = document.createElement("li"), picture = document.createElement(frames.has(time) ? "img" : "span");
    if (frames.has(time)) Object.assign(picture, { src: frames.get(time), alt: `keyframe at ${time} s` });
    else picture.className = "blank";
    item.append(picture, `${time} s`);
    return item;
  }));
}

// Of a video that was not watched, its keyframes are cut out of the server's sheet.
async function cut(entry) {
  const times = keyframeTimes(entry.video);
  if (times.every((time) => entry.frames.has(time))) return;
  const sheet = await createImageBitmap(await (await ask(`v1/videos/${entry.id}/content?variant=spritesheet`)).blob());
  const side = sheet.width / times.length - 2; // every frame has a border of one pixel
  for (const [number, time] of times.entries()) {
    const canvas = Object.assign(document.createElement("canvas"), { width: side, height: sheet.height - 2 });
    canvas.getContext("2d").drawImage(sheet, -(number * (side + 2) + 1), -1);
    entry.frames.set(time, canvas.toDataURL());
  }
}

// While a video is drawn, its frames so far are played again and again.
let turn = 0;
function play() {
  const entry = shown.get(chosen);
  if (!entry?.video || entry.address || entry.frames.size === 0) return;
  const times = [...entry.frames.keys()].sort((a, b) => a - b);
  turn = calm.matches ? times.length - 1 : (turn + 1) % times.length;
  Object.assign($("live"), { src: entry.frames.get(times[turn]), hidden: false, alt: `frame at ${times[turn]} s` });
}
setInterval(play, 125);

// ---------------------------------------------------------------- the start

async function make(event) {
  event.preventDefault();
  $("error").textContent = "";
  $("make").disabled = true;
  try {
    const video = await (await ask("v1/videos", { method: "POST", body: readForm() })).json();
    const entry = addCard(video.id);
    entry.video = video;
    choose(video.id);
    draw(entry);
    follow(entry);
    if (innerWidth < 832) $("stage").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
  } catch (error) {
    $("error").textContent = error.message;
  } finally {
    $("make").disabled = false;
  }
}

async function start() {
  const { data } = await getJson("v1/models");
  startForm(data);
  $("form").addEventListener("submit", make);
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
  });
  document.addEventListener("visibilitychange", () => {
    const entry = shown.get(chosen);
    (document.hidden ? entry?.leave : entry?.wake)?.();
  });
  const ids = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
  for (const id of ids) addCard(id);
  if (ids.length) choose(ids.at(-1));
  for (const entry of shown.values()) follow(entry);
}

start().catch((error) => { $("error").textContent = `${error.message} Reload the page once it is there.`; });
