// Shows the engine head with a slider for each channel, and plays recordings and the animations of the GLB file.
"use strict";

// Folders of the panel: each blendshape belongs to the first whose pattern its name matches.
const FOLDERS = [
  ["Head", null],
  ["Mouth", /^mouth/],
  ["Jaw and tongue", /^(jaw|tongue)/],
  ["Eyes", /^eye(?!Look)/],
  ["Gaze of each eye", /^eyeLook/],
  ["Brows", /^brow/],
  ["Cheeks and nose", /^(cheek|nose)/],
];
// Channels that turn joints: label, and range in radians. The head turns about
// y, x and z in this order, as the states of the head model do.
const JOINTS = {
  yaw: ["turn left", 0.7],
  pitch: ["turn down", 0.5],
  roll: ["left side up", 0.4],
  jaw: ["open jaw", 0.4],
  gaze_yaw: ["look left", 0.5],
  gaze_pitch: ["look down", 0.35],
};

function showHead(glb) {
  const bytes = Uint8Array.from(atob(glb), (character) => character.charCodeAt(0));
  new THREE.GLTFLoader().parse(bytes.buffer, "", (gltf) => start(gltf), (error) => say(String(error), true));
}

function start(gltf) {
  const renderer = new THREE.WebGLRenderer({ antialias: true });
  const scene = new THREE.Scene();
  scene.background = new THREE.Color(0xffffff);
  scene.add(gltf.scene);
  document.body.prepend(renderer.domElement);
  const head = new Head(gltf);
  const camera = gltf.cameras[0].clone();
  gltf.cameras[0].getWorldPosition(camera.position);
  gltf.cameras[0].getWorldQuaternion(camera.quaternion);
  const controls = new THREE.OrbitControls(camera, renderer.domElement);
  controls.target.copy(targetOf(camera, head));
  const fit = () => {
    const width = Math.max(1, innerWidth - document.querySelector("aside").offsetWidth);
    renderer.setPixelRatio(devicePixelRatio);
    renderer.setSize(width, innerHeight);
    camera.aspect = width / innerHeight;
    camera.updateProjectionMatrix();
  };
  addEventListener("resize", fit);
  fit();
  const panel = new Panel(head);
  const player = new Player(gltf, head, panel);
  acceptFiles(player, head);
  renderer.setAnimationLoop((time) => {
    player.step(time / 1000);
    controls.update();
    renderer.render(scene, camera);
  });
  window.page = { head, panel, player, camera, controls, renderer, scene, THREE };
}

// The point in front of the camera at the distance of the eyes: orbiting starts without a jump.
function targetOf(camera, head) {
  const eyes = head.nodes.eyeLeft.getWorldPosition(new THREE.Vector3());
  eyes.add(head.nodes.eyeRight.getWorldPosition(new THREE.Vector3())).multiplyScalar(0.5);
  const forward = camera.getWorldDirection(new THREE.Vector3());
  const distance = eyes.sub(camera.position).dot(forward);
  return camera.position.clone().addScaledVector(forward, distance);
}

// The values of all channels, and what they do to blendshapes and joints.
class Head {
  constructor(gltf) {
    this.nodes = {};
    gltf.scene.traverse((node) => {
      if (node.isSkinnedMesh) this.mesh = node;
      this.nodes[node.name] = node;
    });
    this.mesh.frustumCulled = false; // its bounds do not include blendshapes
    this.shapes = this.mesh.morphTargetDictionary;
    this.rest = {};
    for (const name of ["root", "neck", "jaw", "eyeLeft", "eyeRight"]) {
      const { quaternion, position } = this.nodes[name];
      this.rest[name] = { quaternion: quaternion.clone(), position: position.clone(), vector: rotationVector(quaternion) };
    }
    this.values = Object.fromEntries([...Object.keys(JOINTS), ...Object.keys(this.shapes)].map((name) => [name, 0]));
  }

  set(name, value) {
    this.values[name] = value;
    if (name in this.shapes) this.mesh.morphTargetInfluences[this.shapes[name]] = value;
    else this.turn();
  }

  reset() {
    for (const [name, rest] of Object.entries(this.rest)) {
      this.nodes[name].quaternion.copy(rest.quaternion);
      this.nodes[name].position.copy(rest.position);
    }
    for (const name of Object.keys(this.values)) this.set(name, 0);
  }

  turn() {
    const { yaw, pitch, roll, jaw, gaze_yaw, gaze_pitch } = this.values;
    const turned = new THREE.Quaternion().setFromEuler(new THREE.Euler(pitch, yaw, roll, "YXZ"));
    this.nodes.neck.quaternion.copy(turned.multiply(this.rest.neck.quaternion));
    this.nodes.jaw.quaternion.copy(fromVector(this.rest.jaw.vector, jaw, 0));
    for (const eye of ["eyeLeft", "eyeRight"])
      this.nodes[eye].quaternion.copy(fromVector(this.rest[eye].vector, gaze_pitch, gaze_yaw));
  }

  // Positions of all vertices as they are drawn, metres: x, y, z of the first, then of the second, and so on.
  positions() {
    this.mesh.parent.updateMatrixWorld(true);
    this.mesh.skeleton.update();
    const point = new THREE.Vector3(), result = [];
    for (let i = 0; i < this.mesh.geometry.attributes.position.count; i++)
      result.push(...this.mesh.getVertexPosition(i, point).toArray());
    return result;
  }
}

// The rotation by a vector (axis times angle) plus x and y, radians.
function fromVector(vector, x, y) {
  const sum = vector.clone().add(new THREE.Vector3(x, y, 0)), angle = sum.length();
  return new THREE.Quaternion().setFromAxisAngle(angle > 0 ? sum.divideScalar(angle) : new THREE.Vector3(1, 0, 0), angle);
}

function rotationVector(quaternion) {
  const { x, y, z, w } = quaternion, sine = Math.hypot(x, y, z);
  const angle = 2 * Math.atan2(sine, w);
  return new THREE.Vector3(x, y, z).multiplyScalar(sine > 1e-9 ? angle / sine : 2);
}

class Panel {
  constructor(head) {
    this.head = head;
    this.inputs = {};
    for (const [title, pattern] of FOLDERS) {
      const names = pattern === null ? Object.keys(JOINTS) : Object.keys(head.shapes).filter((name) => pattern.test(name));
      const folder = document.createElement("details");
      folder.open = pattern === null || title === "Mouth";
      folder.innerHTML = `<summary>${title}</summary>`;
      for (const name of names) folder.append(this.slider(name));
      document.querySelector("#folders").append(folder);
    }
    document.querySelector("#reset").onclick = () => {
      head.reset();
      this.show();
    };
  }

  slider(name) {
    const row = document.createElement("label"), input = document.createElement("input");
    const range = name in JOINTS ? JOINTS[name][1] : 1;
    Object.assign(input, { type: "range", min: name in JOINTS && name !== "jaw" ? -range : 0, max: range, step: 0.01, value: 0 });
    input.dataset.channel = name;
    input.oninput = () => {
      this.onTouch?.();
      this.head.set(name, Number(input.value));
      this.show(name);
    };
    row.append(readable(name), input, document.createElement("output"));
    this.inputs[name] = input;
    return row;
  }

  // Moves one slider, or all of them, to the head's values.
  show(only) {
    for (const name of only ? [only] : Object.keys(this.inputs)) {
      const value = this.head.values[name];
      this.inputs[name].value = value;
      this.inputs[name].nextSibling.value = value === 0 ? "" : value.toFixed(2);
    }
  }
}

// "mouthSmileLeft" as "smile left"
function readable(name) {
  if (name in JOINTS) return JOINTS[name][0];
  const words = name.replace(/([A-Z])/g, " $1").toLowerCase().split(" ");
  return (words.length > 1 && !name.startsWith("jaw") && !name.startsWith("tongue") ? words.slice(1) : words).join(" ");
}

// Plays either a recording or an animation of the GLB file, in a loop.
class Player {
  constructor(gltf, head, panel) {
    Object.assign(this, { head, panel, recording: null, action: null, last: null, time: 0 });
    this.mixer = new THREE.AnimationMixer(gltf.scene);
    for (const clip of gltf.animations) this.addButton(`Play ${clip.name}`, () => this.playClip(clip));
    panel.onTouch = () => this.stop();
    document.querySelector("#reset").addEventListener("click", () => this.stop());
  }

  addButton(text, onClick) {
    const button = document.createElement("button");
    button.textContent = text;
    button.onclick = onClick;
    document.querySelector("#buttons").append(button);
  }

  playClip(clip) {
    this.stop();
    this.action = this.mixer.clipAction(clip).reset().play();
  }

  playRecording(recording) {
    this.stop();
    Object.assign(this, { recording, time: 0 });
  }

  stop() {
    if (this.action !== null || this.recording !== null) {
      this.mixer.stopAllAction();
      this.action = this.recording = null;
      this.head.reset();
      this.panel.show();
    }
  }

  step(now) {
    const passed = this.last === null ? 0 : now - this.last;
    this.last = now;
    if (this.action !== null) this.mixer.update(passed);
    if (this.recording === null) return;
    const { frames, fps } = this.recording;
    this.show(Math.floor(this.time * fps) % frames.length);
    this.time += passed;
  }

  // Shows one frame of the recording.
  show(index) {
    for (const [name, value] of Object.entries(this.recording.frames[index])) this.head.set(name, value);
    this.panel.show();
  }
}

function acceptFiles(player, head) {
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  addEventListener("drop", async (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const file = event.dataTransfer.files[0];
    if (file === undefined) return;
    try {
      const recording = readRecording(await file.text(), Object.keys(head.shapes));
      player.playRecording(recording);
      const left = recording.missing.length ? `; ${recording.missing.length} blendshapes have no column` : "";
      say(`${file.name}: ${recording.frames.length} frames at ${recording.fps} per second${left}.`, false);
    } catch (error) {
      say(`${file.name}: ${error.message}`, true);
    }
  });
}

function say(text, isError) {
  const message = document.querySelector("#message");
  message.textContent = text;
  message.className = isError ? "error" : "";
}
