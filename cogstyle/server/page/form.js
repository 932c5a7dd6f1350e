// The form: what can be asked of each bundle, and the pictures that are given.

const $ = (id) => document.getElementById(id);
const models = new Map();
const pictures = []; // files in the order of time

export const model = () => models.get($("model").value);
const mode = () => document.querySelector("[name=mode]:checked").value;
const levels = () => Number($("frames").value);
const number = (value) => String(Number(value.toPrecision(4)));

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value, false, String(value) === String(chosen))));
}

// Keyframes of the video: the bundle's, or the pictures that were given.
const keyframes = () => (mode() === "between" ? Math.max(pictures.length, 2) : model().keyframes);
const rates = () => model()[mode() === "between" ? "between_rates" : "frame_rates"][levels()];
const rate = () => rates()[Number($("rate").value)] ?? rates()[0];

// Lay the form out anew for what was chosen, keeping what still fits.
function layOut(wanted = {}) {
  const known = model(), before = wanted.rate ?? $("rate").dataset.rate ?? known.frame_rate;
  const counts = Array.from({ length: known.levels + 1 }, (_, level) => [level, (keyframes() - 1) * 2 ** level + 1]);
  options($("frames"), counts, wanted.levels ?? ($("frames").value || known.levels));
  if ($("frames").selectedIndex < 0) $("frames").selectedIndex = known.levels;
  options($("size"), known.sizes.map((size) => [size, size]), wanted.size ?? $("size").value);
  if ($("size").selectedIndex < 0) $("size").selectedIndex = 0;
  const all = rates();
  $("rate").max = all.length - 1;
  $("rate").value = Math.max(0, all.indexOf(Number(before)));
  $("rate").disabled = all.length < 2;
  pace();
}

// Say what the slider does.
function pace() {
  const chosen = rate(), count = keyframes(), seconds = (count - 1) / chosen;
  $("rate").dataset.rate = chosen;
  const fps = chosen * 2 ** levels(), frames = (count - 1) * 2 ** levels() + 1;
  const text = `${number(chosen)} keyframe${chosen === 1 ? "" : "s"} a second: ${count} keyframes tell ${number(seconds)} s, shown in ${frames} frames, ${number(fps)} a second.`;
  $("pace").textContent = text;
  $("rate").setAttribute("aria-valuetext", `${number(chosen)} keyframes a second, ${number(seconds)} seconds`);
}

function showWords() {
  const groups = Object.entries(model().words);
  $("words").hidden = groups.length === 0;
  $("words").querySelector("dl").replaceChildren(...groups.flatMap(([name, words]) => {
    const [term, list] = ["dt", "dd"].map((tag) => document.createElement(tag));
    term.textContent = name;
    list.textContent = words.join(", ");
    return [term, list];
  }));
}

function showPictures() {
  const between = mode() === "between", most = between ? model().most_pictures : 1;
  pictures.splice(most);
  $("upload").hidden = mode() === "text";
  $("files").multiple = between;
  $("hint").textContent = between
    ? `Choose or drop two to ${most} pictures; what lies between them is drawn.`
    : "Choose or drop a picture: the video starts with it.";
  for (const image of $("pictures").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  $("pictures").replaceChildren(...pictures.map((file, place) => {
    const item = document.createElement("li"), row = document.createElement("div");
    const image = Object.assign(new Image(), { src: URL.createObjectURL(file), alt: file.name, title: file.name });
    const button = (text, label, act) => {
      const made = Object.assign(document.createElement("button"), { type: "button", textContent: text, title: label });
      made.setAttribute("aria-label", `${label}: ${file.name}`);
      made.addEventListener("click", () => { act(); showPictures(); });
      row.append(made);
    };
    if (place > 0) button("←", "earlier", () => pictures.splice(place - 1, 2, file, pictures[place - 1]));
    button("×", "leave out", () => pictures.splice(place, 1));
    item.append(image, row);
    return item;
  }));
  layOut();
}

function take(files) {
  if (mode() === "first") pictures.length = 0;
  pictures.push(...files);
  showPictures();
}

// What is sent: a form as the API takes it.
export function readForm() {
  const form = new FormData(), start = mode();
  const fields = {
    prompt: $("prompt").value, model: $("model").value, size: $("size").value, seed: $("seed").value, levels: levels(),
    seconds: (keyframes() - 1) / rate(),
  };
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  if (start === "first" && pictures.length === 0) throw new Error("Choose the first frame, or start from words.");
  if (start === "between" && pictures.length < 2) throw new Error("Choose two pictures or more to fill between.");
  if (start !== "text") for (const file of pictures) form.append(start === "first" ? "input_reference" : "images", file);
  return form;
}

// Ask again for what made a video; pictures are not kept by the page.
export function fillForm(video) {
  $("prompt").value = video.prompt;
  $("seed").value = video.seed;
  if (models.has(video.model)) $("model").value = video.model;
  if (video.pictures === 0) document.querySelector("[name=mode][value=text]").checked = true;
  showWords();
  showPictures();
  layOut({ rate: video.frame_rate, levels: video.levels, size: video.size });
}

export function startForm(data) {
  for (const one of data) models.set(one.id, one);
  options($("model"), data.map((one) => [one.id, one.id]), data[0].id);
  $("model").addEventListener("change", () => { showWords(); showPictures(); });
  $("frames").addEventListener("change", () => layOut());
  $("rate").addEventListener("input", pace);
  for (const radio of document.querySelectorAll("[name=mode]")) radio.addEventListener("change", showPictures);
  $("files").addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
  const drop = document.querySelector(".drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files);
    });
  }
  $("dice").addEventListener("click", () => { $("seed").value = Math.floor(Math.random() * 2 ** 31); });
  for (const example of document.querySelectorAll(".examples button")) {
    example.addEventListener("click", () => { $("prompt").value = example.textContent; $("prompt").focus(); });
  }
  showWords();
  showPictures();
}
