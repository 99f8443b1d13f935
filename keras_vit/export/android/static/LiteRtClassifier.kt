package %package

import android.content.Context
import android.graphics.Bitmap

/** Classifies images with LiteRT; the arguments are those of `LiteRtModel`. */
class LiteRtClassifier(
    context: Context,
    file: String = %file,
    labels: String = "labels.txt",
    origin: Float = 0.5f,
    threads: Int = 2
) : AutoCloseable {

    private val names = context.assets.open(labels).bufferedReader().useLines { lines -> lines.toList() }
    private val model = LiteRtModel(context, file, origin, threads)

    /** Classifies an image file, the most probable class first. */
    fun classify(bytes: ByteArray, maxResults: Int = %shown): List<Label> =
        classify(Image.decode(bytes).upright(), maxResults)

    /** Classifies an upright bitmap, the most probable class first; returns no class for one that is none of these. */
    fun classify(bitmap: Bitmap, maxResults: Int = %shown): List<Label> {
        val outputs = model.run(bitmap)
        val probabilities = outputs.getValue(%scores)
        check(probabilities.size == names.size) {
            "The file has ${probabilities.size} classes, labels.txt ${names.size}: they are of different models."
        }
        // A file of a model that rejects images has this output, which is below 0 for them.
        if ((outputs["known"]?.first() ?: 0f) < 0f) return emptyList()
        return names.zip(probabilities.toList(), ::Label).sortedByDescending { it.probability }.take(maxResults)
    }

    override fun close() = model.close()
}
