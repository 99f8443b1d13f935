// A stand-in for LiteRT: keeps what is written, and returns what `outputsOf` has for a file.
package com.google.ai.edge.litert

import android.content.AssetManager

enum class Accelerator { CPU, GPU }

val written = mutableListOf<Any>()
var outputsOf: (String) -> List<Any> = { emptyList() }

class TensorBuffer(private val content: Any?) {
    fun writeInt8(data: ByteArray) { written.add(data) }
    fun writeFloat(data: FloatArray) { written.add(data) }
    fun readInt8(): ByteArray = content as ByteArray
    fun readFloat(): FloatArray = content as FloatArray
    fun close() {}
}

class CompiledModel private constructor(private val file: String) {
    class CpuOptions(val numThreads: Int? = null)

    class Options(vararg accelerators: Accelerator) {
        var cpuOptions: CpuOptions? = null
    }

    fun createInputBuffers(): List<TensorBuffer> = listOf(TensorBuffer(null))
    fun createOutputBuffers(): List<TensorBuffer> = outputsOf(file).map { TensorBuffer(it) }
    fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>) {}
    fun close() {}

    companion object {
        fun create(assets: AssetManager, name: String, options: Options): CompiledModel = CompiledModel(name)
    }
}
