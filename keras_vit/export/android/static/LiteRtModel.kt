package %package

import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import kotlin.math.roundToInt

/**
 * Runs %file_name with LiteRT: %height x %width pixels (height x width), %input.
 *
 * Create one and keep it. Do not call it on the main thread.
 *
 * @param origin where the resize samples the first pixel: 0.5 at its center, as in training; 0 at the corner of the
 *   image, as in MediaPipe and for the numbers of the self-test.
 */
class LiteRtModel(
    context: Context,
    file: String = %file,
    private val origin: Float = 0.5f,
    threads: Int = 2
) : AutoCloseable {

    private val model = CompiledModel.create(
        context.assets,
        file,
        CompiledModel.Options(Accelerator.CPU).apply {
            cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
        }
    )
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()

    /** Runs an image file, and returns {output: its numbers}. */
    fun run(bytes: ByteArray): Map<String, FloatArray> = run(Image.decode(bytes).upright())

    /** Runs an upright bitmap, and returns {output: its numbers}. */
    @Synchronized
    fun run(bitmap: Bitmap): Map<String, FloatArray> {
        val levels = pixels(bitmap.readable())
        %write
        model.run(inputs, outputs)
        return mapOf(
            %reads
        )
    }

    /** Returns HEIGHT x WIDTH RGB pixels, levels of 0 to 255, by bilinear interpolation, both sides on their own. */
    private fun pixels(bitmap: Bitmap): IntArray {
        val (oldWidth, oldHeight) = bitmap.width to bitmap.height
        val colors = IntArray(oldWidth * oldHeight)
        bitmap.getPixels(colors, 0, oldWidth, 0, 0, oldWidth, oldHeight)
        val xs = Samples(oldWidth, WIDTH, origin)
        val ys = Samples(oldHeight, HEIGHT, origin)
        val levels = IntArray(HEIGHT * WIDTH * 3)
        var at = 0
        for (y in 0 until HEIGHT) {
            val above = ys.first[y] * oldWidth
            val below = ys.second[y] * oldWidth
            for (x in 0 until WIDTH) {
                for (shift in SHIFTS) {
                    fun channel(index: Int) = (colors[index] shr shift and 0xFF).toFloat()
                    val top = mix(channel(above + xs.first[x]), channel(above + xs.second[x]), xs.part[x])
                    val bottom = mix(channel(below + xs.first[x]), channel(below + xs.second[x]), xs.part[x])
                    levels[at++] = mix(top, bottom, ys.part[y]).roundToInt()
                }
            }
        }
        return levels
    }

    private fun mix(one: Float, other: Float, part: Float) = one + (other - one) * part

    companion object {
        const val HEIGHT = %height
        const val WIDTH = %width
        private val SHIFTS = intArrayOf(16, 8, 0) // red, green and blue of a colour
    }

    /** For each of `new` pixels the two of `old` pixels that it lies between, and its part of the way to the second. */
    private class Samples(old: Int, new: Int, origin: Float) {
        private val positions = FloatArray(new) {
            ((it + origin) * old / new - origin).coerceIn(0f, (old - 1).toFloat())
        }
        val first = IntArray(new) { positions[it].toInt() }
        val second = IntArray(new) { minOf(first[it] + 1, old - 1) }
        val part = FloatArray(new) { positions[it] - first[it] }
    }

    @Synchronized
    override fun close() {
        (inputs + outputs).forEach { it.close() }
        model.close()
    }
}
