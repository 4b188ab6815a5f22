// What the page of an exported head uses of three.js. build.sh bundles it.
export {
  AnimationMixer, Color, Euler, PerspectiveCamera, Quaternion, Scene, Vector3, WebGLRenderer,
} from "three";
export { GLTFLoader } from "three/examples/jsm/loaders/GLTFLoader.js";
export { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
