// Reads a Live Link Face recording: a CSV with one row per frame, a timecode and ARKit's blendshapes.
"use strict";

const LARGEST_ROWS = 1e6;
// Angles of the head in the recording's columns, and the page's channels.
const HEAD_COLUMNS = { headyaw: "yaw", headpitch: "pitch", headroll: "roll" };

// The frames per second and, for each frame, a value for each channel; throws an Error with a text for people.
function readRecording(text, shapeNames) {
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/).filter((line) => line.trim() !== "");
  if (lines.length < 2) throw new Error("The file has no rows.");
  if (lines.length > LARGEST_ROWS) throw new Error("The file has too many rows.");
  const separator = lines[0].includes(";") && !lines[0].includes(",") ? ";" : ",";
  const header = lines[0].split(separator).map(plainName);
  const channels = { ...HEAD_COLUMNS };
  for (const name of shapeNames) channels[plainName(name)] = name;
  const columns = header.map((name) => channels[name] ?? null);
  const missing = shapeNames.filter((name) => !columns.includes(name));
  if (missing.length === shapeNames.length) throw new Error("The file has no column of a blendshape, such as JawOpen.");
  const frames = [];
  lines.slice(1).forEach((line, index) => {
    const cells = line.split(separator);
    if (cells.length < header.length) {
      if (index === lines.length - 2) return; // a truncated last row
      throw new Error(`Row ${index + 2} has ${cells.length} cells, the header has ${header.length}.`);
    }
    const values = {};
    columns.forEach((channel, column) => {
      if (channel === null) return;
      const value = Number(cells[column]);
      if (cells[column].trim() === "" || !Number.isFinite(value))
        throw new Error(`Row ${index + 2}, column ${header[column]}: "${cells[column]}" is not a number.`);
      values[channel] = value;
    });
    frames.push(values);
  });
  return { fps: rateOf(lines.slice(1).map((line) => line.split(separator)[header.indexOf("timecode")])), frames, missing };
}

function plainName(name) {
  return name.toLowerCase().replace(/[^a-z]/g, "");
}

// Frames per second: the standard rate next above the largest frame number of timecodes HH:MM:SS:FF.
function rateOf(timecodes) {
  let largest = -1;
  for (const timecode of timecodes) {
    const frame = parseFloat((timecode ?? "").split(/[:;]/)[3]);
    if (frame > largest) largest = frame;
  }
  if (largest < 0) return 60;
  return [24, 25, 30, 50, 60].find((rate) => Math.floor(largest) < rate) ?? 60;
}
