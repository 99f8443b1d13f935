/* Starts, turns and stops the camera. */

const REASONS = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser's settings.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
};

export class Camera {
  stream = null;
  #facing = "environment";

  constructor(video) {
    this.video = video;
  }

  get running() {
    return this.stream !== null;
  }

  /** Returns whether the browser offers cameras to this page: only in a secure context, https:// or localhost. */
  static get offered() {
    return Boolean(navigator.mediaDevices?.getUserMedia);
  }

  /** Starts, and resolves when there are frames; throws an Error with a message for the user. */
  async start() {
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: this.#facing, width: { ideal: 1280 } },
      });
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `The camera does not start (${error.message}).`);
    }
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  /** Stops, and selects the camera that faces the other way for the next start. */
  turn() {
    this.#facing = this.#facing === "environment" ? "user" : "environment";
    this.stop();
  }

  async several() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    return devices.filter(({ kind }) => kind === "videoinput").length > 1;
  }

  frame() {
    return createImageBitmap(this.video);
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }
}
