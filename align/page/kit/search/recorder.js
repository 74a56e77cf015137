// The part of the recorder that runs beside the page: it hands over each block of samples of the first channel.
registerProcessor("recorder", class extends AudioWorkletProcessor {
  process([channels]) {
    if (channels.length) this.port.postMessage(channels[0].slice());
    return true;
  }
});
