package %package

import android.content.Context
import android.graphics.Bitmap

/**
 * Classifies images with LiteRT; the other arguments are those of `LiteRtModel`.
 *
 * @param thresholds the least score of each label that an image has, where labels are independent; null returns the
 *   labels below, too.
 */
class LiteRtClassifier(
    context: Context,
    file: String = %file,
    labels: String = "labels.txt",
    thresholds: String? = %thresholds,
    origin: Float = 0.5f,
    threads: Int = 2
) : AutoCloseable {

    private val names = context.lines(labels)
    private val least = thresholds?.let { context.lines(it).map(String::toFloat) } ?: names.map { 0f }
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
        check(least.size == names.size) {
            "labels.txt has ${names.size} labels, thresholds.txt ${least.size}: they are of different models."
        }
        // A file of a model that rejects images has this output, which is below 0 for them.
        if ((outputs["known"]?.first() ?: 0f) < 0f) return emptyList()
        return names.indices.filter { probabilities[it] >= least[it] }.map { Label(names[it], probabilities[it]) }
            .sortedByDescending { it.probability }.take(maxResults)
    }

    override fun close() = model.close()
}
