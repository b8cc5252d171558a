// Loads onnxruntime-web: chooses the build and the device, and wraps networks as functions.

// Files of each build: the script that is imported, the module that it imports itself, and the WebAssembly binary.
const WEBGPU = ["ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"],
  WASM = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

/** The runtime, which loads the networks of a folder. */
export class Runtime {
  constructor(ort, gpu) {
    this.ort = ort;
    this.gpu = gpu;
  }

  /**
   * Load onnxruntime-web: the build for WebGPU if there is a usable GPU, else the smaller one.
   * `scripts`: address of its files; `integrity`: their hashes by name. A file with another hash is refused.
   */
  static async load(scripts, integrity) {
    const base = new URL(scripts, document.baseURI).href;
    const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
    // A fallback adapter emulates WebGPU on the CPU, a hundred times slower than WebAssembly.
    const gpu = Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
    const files = (gpu ? WEBGPU : WASM).map((name) => checked(base + name, integrity[name]));
    const [script, module, program] = await Promise.all(files);
    // Not all browsers check hashes of imports, so the files are fetched, checked, and imported from memory.
    const ort = await import(importable(script));
    ort.env.wasm.wasmPaths = { mjs: importable(module) };
    ort.env.wasm.wasmBinary = program;
    ort.env.logLevel = "error";
    // Threads need shared memory, which browsers allow only on cross-origin isolated pages.
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated
      ? Math.min(4, Math.ceil(navigator.hardwareConcurrency / 2))
      : 1;
    return new Runtime(ort, gpu);
  }

  /** A description of the device that runs a network: the GPU (`gpu`) or the CPU. */
  describe(gpu) {
    const threads = this.ort.env.wasm.numThreads;
    return gpu ? "WebGPU" : `WebAssembly, ${threads} thread${threads === 1 ? "" : "s"}`;
  }

  /** Load a network with one input image (1, 3, size, size). Returns a function from its values to outputs by name. */
  async face({ file, size }) {
    const session = await this.ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
    return async (pixels) =>
      numbers(await session.run({ image: new this.ort.Tensor("float32", pixels, [1, 3, size, size]) }));
  }

  /** Load the student: {draw, gpu}, draw(pixels, index) to {image, alpha}. Falls back from WebGPU to WebAssembly. */
  async student({ file, input_size: size, indexed }) {
    for (const gpu of this.gpu ? [true, false] : [false]) {
      try {
        const session = await this.ort.InferenceSession.create(file, {
          executionProviders: [gpu ? "webgpu" : "wasm"],
          logSeverityLevel: 3, // errors only: a warning that Gather runs on the CPU is expected
        });
        const draw = async (pixels, index) => {
          const driver = new this.ort.Tensor("float32", pixels, [1, 3, size, size]);
          const avatar = indexed ? { avatar: new this.ort.Tensor("int64", BigInt64Array.of(BigInt(index)), [1]) } : {};
          return numbers(await session.run({ driver, ...avatar }));
        };
        await draw(new Float32Array(3 * size * size), 0); // compiles shaders before the first frame
        return { draw, gpu };
      } catch (error) {
        if (!gpu) throw error;
        console.warn("WebGPU cannot run the student, WebAssembly does:", error);
      }
    }
  }
}

const numbers = (outputs) => Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]));

/** Fetch an address; throws an error if the content has another hash. */
async function checked(address, integrity) {
  if (!integrity) throw new Error(`${address} has no hash in avatars.json`);
  const response = await fetch(address, { integrity, credentials: "omit" });
  if (!response.ok) throw new Error(`${address}: ${response.status}`);
  return response.arrayBuffer();
}

const importable = (bytes) => URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));
