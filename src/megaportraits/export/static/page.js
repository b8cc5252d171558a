// The page: a webcam or a video file drives the chosen avatar. It uses the newest frame and drops older ones.

import { HeadFollower } from "./follower.js";
import { sample } from "./geometry.js";
import { Runtime } from "./runtime.js";

const LONGEST_SIDE = 640; // longest side of the processed camera image, pixels; or twice the student's input size
const SPREAD = 1.5; // width of the head crop's low-pass filter, as in faces/crop.py
const WINDOW = 60; // number of frames over which the displayed numbers are averaged
const NO_FACE = "No face in view: sit upright before the camera, in good light.";

const $ = (id) => document.getElementById(id);
const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, loop: true });
const camera = document.createElement("canvas"),
  picture = document.createElement("canvas");
const cameraPen = camera.getContext("2d", { willReadFrequently: true });
let settings, follower, student; // set when loading has finished
let round = 0; // number of starts and pauses; the loop of an earlier round ends
let drawn = null; // the last image of the avatar, ImageData

class Sentence extends Error {} // an error message for the user

function say(text) {
  if ($("message").textContent !== text) $("message").textContent = text;
}

// Sources -------------------------------------------------------------------------------------------------------------

const usesWebcam = () => document.querySelector("[name=source]:checked").value === "webcam";

/** Connect the chosen source to `video`, unless the user pressed Pause while the browser asked for permission. */
async function openSource(mine) {
  if (!usesWebcam()) {
    const [file] = $("file").files;
    if (!file) throw new Sentence("Choose a video file first.");
    video.srcObject = null;
    video.src = URL.createObjectURL(file);
    await playing(`This browser cannot play ${file.name}: choose an MP4 (H.264) or WebM video.`);
  } else {
    const stream = await webcam();
    if (mine !== round) return stop(stream);
    video.srcObject = stream;
    await playing("The webcam gives no picture: unplug it and plug it in again.");
  }
}

async function webcam() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Sentence(
      "Browsers give webcams to pages on localhost or behind HTTPS only. Open the page so, or choose a video file.",
    );
  }
  try {
    const wanted = { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" };
    return await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
  } catch (error) {
    const reasons = {
      NotAllowedError: "The webcam may not be used: allow it beside the browser's address line, then press Start.",
      NotFoundError: "No webcam was found: connect one and press Start, or choose a video file.",
      NotReadableError: "The webcam is busy: close the other program that uses it, then press Start.",
    };
    throw new Sentence(reasons[error.name] ?? `The webcam does not start (${error.name}): choose a video file.`);
  }
}

async function playing(otherwise) {
  try {
    await video.play();
  } catch (error) {
    if (error.name !== "AbortError") throw new Sentence(otherwise); // aborted: the user pressed Pause meanwhile
  }
}

const stop = (stream) => stream?.getTracks().forEach((track) => track.stop()); // turns the camera off

function closeSource() {
  video.pause();
  stop(video.srcObject);
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute("src");
}

/** Wait for a new frame of the video. Returns its capture time, milliseconds. */
function nextFrame() {
  return new Promise((done) => {
    if (video.requestVideoFrameCallback)
      video.requestVideoFrameCallback((now, { captureTime }) => done(captureTime ?? now));
    else requestAnimationFrame(done);
  });
}

/** The video's current frame, mirrored if that option is set. */
function grab() {
  const longest = Math.max(LONGEST_SIDE, 2 * settings.student.input_size);
  const scale = Math.min(1, longest / Math.max(video.videoWidth, video.videoHeight));
  const width = Math.round(video.videoWidth * scale),
    height = Math.round(video.videoHeight * scale);
  if (camera.width !== width || camera.height !== height) Object.assign(camera, { width, height });
  const side = $("mirror").checked ? -1 : 1;
  cameraPen.setTransform(side, 0, 0, 1, side < 0 ? width : 0, 0);
  cameraPen.drawImage(video, 0, 0, width, height);
  return cameraPen.getImageData(0, 0, width, height);
}

// Drawing -------------------------------------------------------------------------------------------------------------

/** Convert the student's output, planes in [0, 1], to ImageData with straight alpha. */
function toPicture({ image, alpha }, size) {
  const result = new ImageData(size, size),
    plane = size * size;
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) result.data[4 * i + c] = 255 * image[c * plane + i];
    result.data[4 * i + 3] = alpha ? 255 * alpha[i] : 255;
  }
  return result;
}

function showAvatar() {
  const canvas = $("avatar-picture"),
    pen = canvas.getContext("2d");
  pen.fillStyle = $("background").value;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  if (!drawn) return;
  Object.assign(picture, { width: drawn.width, height: drawn.height });
  picture.getContext("2d").putImageData(drawn, 0, 0);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
}

function showOwn(crop) {
  const canvas = $("own-picture"),
    pen = canvas.getContext("2d"),
    width = 320;
  Object.assign(canvas, { width, height: Math.round((width * camera.height) / camera.width) });
  const scale = width / camera.width;
  pen.drawImage(camera, 0, 0, canvas.width, canvas.height);
  if (!crop) return;
  pen.strokeStyle = "#fff";
  pen.lineWidth = 2;
  pen.strokeRect(
    (crop.x - crop.side / 2) * scale,
    (crop.y - crop.side / 2) * scale,
    crop.side * scale,
    crop.side * scale,
  );
}

// The loop ------------------------------------------------------------------------------------------------------------

class Numbers {
  constructor() {
    this.moments = [];
    this.latencies = [];
  }

  /** Count a frame with its capture and display times, milliseconds. */
  add(caught, shown) {
    this.moments = [...this.moments, shown].slice(-WINDOW);
    this.latencies = [...this.latencies, shown - caught].slice(-WINDOW);
    const span = shown - this.moments[0],
      middle = [...this.latencies].sort((a, b) => a - b)[this.latencies.length >> 1];
    $("fps").textContent = span > 0 ? ((1000 * (this.moments.length - 1)) / span).toFixed(1) : "–";
    $("latency").textContent = `${middle.toFixed(0)} ms`;
  }
}

async function loop(mine) {
  const numbers = new Numbers(),
    { input_size: input, image_size: output } = settings.student;
  while (true) {
    const caught = await nextFrame();
    if (mine !== round) return;
    if (!video.videoWidth) continue;
    const frame = grab(),
      crop = await follower.look(frame, caught / 1000);
    if (crop) {
      const pixels = sample(frame, crop, input, { repeat: true, spread: SPREAD });
      const rendered = await student.draw(pixels, $("avatar").selectedIndex);
      if (mine !== round) return;
      drawn = toPicture(rendered, output);
      showAvatar();
      numbers.add(caught, performance.now());
    }
    if (mine !== round) return;
    if ($("show-own").checked) showOwn(crop);
    say(crop ? "" : NO_FACE);
  }
}

async function start() {
  const mine = ++round;
  $("start").textContent = "Pause";
  say("Starting.");
  try {
    await openSource(mine);
    if (mine !== round) return;
    follower.forget();
    await loop(mine);
  } catch (error) {
    if (mine !== round) return;
    pause();
    if (!(error instanceof Sentence)) console.error(error);
    say(error instanceof Sentence ? error.message : `It stopped: ${error.message}`);
  }
}

function pause() {
  round++;
  $("start").textContent = "Start";
  closeSource();
  say("Paused.");
}

const isRunning = () => $("start").textContent === "Pause";

function sourceChanged() {
  $("file-field").hidden = usesWebcam();
  $("mirror").checked = usesWebcam(); // webcams are shown mirrored, videos are not
  if (isRunning()) pause();
  if (!usesWebcam() && $("file").files.length) start();
}

// Begin ---------------------------------------------------------------------------------------------------------------

async function load() {
  say("Loading the networks.");
  settings = await (await fetch("avatars.json")).json();
  for (const name of settings.avatars) $("avatar").add(new Option(name.replaceAll("_", " "), name));
  const runtime = await Runtime.load(settings.scripts, settings.integrity).catch((error) => {
    console.error(error);
    throw new Sentence(
      `onnxruntime-web cannot be loaded from ${settings.scripts}, or is not the version that this page was made for: go online, or export the page with --scripts FOLDER.`,
    );
  });
  const { detector, landmarks } = settings.faces;
  follower = new HeadFollower(
    { detector: await runtime.face(detector), landmarks: await runtime.face(landmarks) },
    settings,
  );
  student = await runtime.student(settings.student);
  $("device").textContent = runtime.describe(student.gpu);
}

async function begin() {
  $("start").addEventListener("click", () => (isRunning() ? pause() : start()));
  for (const input of document.querySelectorAll("[name=source], #file"))
    input.addEventListener("change", sourceChanged);
  $("background").addEventListener("input", showAvatar);
  $("show-own").addEventListener("change", () => ($("own-picture").hidden = !$("show-own").checked));
  showAvatar();
  try {
    await load();
  } catch (error) {
    if (!(error instanceof Sentence)) console.error(error);
    say(
      error instanceof Sentence
        ? error.message
        : `The networks cannot be loaded (${error.message}). Use a current Chrome, Edge, Firefox or Safari.`,
    );
    return;
  }
  $("start").disabled = $("avatar").disabled = false;
  say("Press Start, and look into the camera.");
}

begin();
