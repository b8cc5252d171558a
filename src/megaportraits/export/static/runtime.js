// onnxruntime-web: which build of it, on what it runs, and networks as functions.

// Of each build: the script that is imported, the module that it imports itself, and the program.
const WEBGPU = ["ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"],
  WASM = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

/** The runtime and the networks of a folder. */
export class Runtime {
  constructor(ort, gpu) {
    this.ort = ort;
    this.gpu = gpu;
  }

  /**
   * Loads onnxruntime-web: the build for WebGPU where there is a graphics processor to use, else the smaller one.
   * `scripts`: where its files are; `integrity`: their hashes by name. A file with another hash is refused.
   */
  static async load(scripts, integrity) {
    const base = new URL(scripts, document.baseURI).href;
    const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
    // A fallback adapter is the processor in a graphics processor's clothes, a hundred times slower than WebAssembly.
    const gpu = Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
    const files = (gpu ? WEBGPU : WASM).map((name) => checked(base + name, integrity[name]));
    const [script, module, program] = await Promise.all(files);
    // An import cannot be given a hash in all browsers: what was fetched and checked is imported from memory.
    const ort = await import(importable(script));
    ort.env.wasm.wasmPaths = { mjs: importable(module) };
    ort.env.wasm.wasmBinary = program;
    ort.env.logLevel = "error";
    // Threads share memory, which browsers allow on cross-origin isolated pages only.
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated
      ? Math.min(4, Math.ceil(navigator.hardwareConcurrency / 2))
      : 1;
    return new Runtime(ort, gpu);
  }

  /** What a network on the graphics processor, or on none, runs on, in words. */
  describe(gpu) {
    const threads = this.ort.env.wasm.numThreads;
    return gpu ? "WebGPU" : `WebAssembly, ${threads} thread${threads === 1 ? "" : "s"}`;
  }

  /** A network with one picture (1, 3, size, size): a function from its numbers to the outputs by name. */
  async face({ file, size }) {
    const session = await this.ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
    return async (pixels) =>
      numbers(await session.run({ image: new this.ort.Tensor("float32", pixels, [1, 3, size, size]) }));
  }

  /** The student: {draw, gpu}, draw(pixels, index) to {image, alpha}. Where WebGPU fails, WebAssembly draws. */
  async student({ file, input_size: size, indexed }) {
    for (const gpu of this.gpu ? [true, false] : [false]) {
      try {
        const session = await this.ort.InferenceSession.create(file, {
          executionProviders: [gpu ? "webgpu" : "wasm"],
          logSeverityLevel: 3, // errors: that avatars are looked up on the processor is no news
        });
        const draw = async (pixels, index) => {
          const driver = new this.ort.Tensor("float32", pixels, [1, 3, size, size]);
          const avatar = indexed ? { avatar: new this.ort.Tensor("int64", BigInt64Array.of(BigInt(index)), [1]) } : {};
          return numbers(await session.run({ driver, ...avatar }));
        };
        await draw(new Float32Array(3 * size * size), 0); // shaders are compiled now, not in the first frame
        return { draw, gpu };
      } catch (error) {
        if (!gpu) throw error;
        console.warn("WebGPU cannot run the student, WebAssembly does:", error);
      }
    }
  }
}

const numbers = (outputs) => Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]));

/** The bytes behind an address; throws when they have another hash. */
async function checked(address, integrity) {
  if (!integrity) throw new Error(`${address} has no hash in avatars.json`);
  const response = await fetch(address, { integrity, credentials: "omit" });
  if (!response.ok) throw new Error(`${address}: ${response.status}`);
  return response.arrayBuffer();
}

const importable = (bytes) => URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));
