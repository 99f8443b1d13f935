package %package

import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.core.Delegate
import com.google.mediapipe.tasks.vision.core.ImageProcessingOptions
import com.google.mediapipe.tasks.vision.core.RunningMode
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier

/**
 * Classifies images with MediaPipe; labels, resize and scaling come from the file's metadata.
 *
 * Construction takes hundreds of milliseconds: create one and keep it. Do not call it on the main thread.
 *
 * @param thresholds the least score of each label that an image has, where labels are independent; null returns the
 *   labels below, too.
 */
class MediaPipeClassifier(
    context: Context,
    file: String = %file,
    thresholds: String? = %thresholds,
    maxResults: Int = %shown
) : AutoCloseable {

    private val least = thresholds?.let { context.lines(it).map(String::toFloat) }
    private val classifier = ImageClassifier.createFromOptions(
        context,
        ImageClassifier.ImageClassifierOptions.builder()
            .setBaseOptions(
                BaseOptions.builder()
                    .setModelAssetPath(file)
                    .setDelegate(Delegate.CPU) // MediaPipe's GPU path may not run a Vision Transformer
                    .build()
            )
            .setRunningMode(RunningMode.IMAGE)
            .setMaxResults(maxResults)
            .build()
    )

    /** Classifies an image file, the most probable class first. */
    fun classify(bytes: ByteArray): List<Label> {
        // MediaPipe can turn but not mirror an image, and when it shrinks a turned image it samples one pixel late.
        return classify(Image.decode(bytes).upright())
    }

    /**
     * Classifies a bitmap, the most probable class first; returns no class for one that is none of these.
     *
     * @param rotationDegrees clockwise turn that sets it upright: 0, 90, 180 or 270. EXIF's, or for a frame of CameraX
     *   `imageProxy.imageInfo.rotationDegrees`.
     */
    @Synchronized
    fun classify(bitmap: Bitmap, rotationDegrees: Int = 0): List<Label> {
        val options = ImageProcessingOptions.builder().setRotationDegrees(rotationDegrees).build()
        val heads = classifier.classify(BitmapImageBuilder(bitmap.readable()).build(), options)
            .classificationResult().classifications()
        // A file of a model that rejects images has a second head, whose score is below 0 for them.
        if (heads.drop(1).any { head -> head.categories().any { it.score() < 0f } }) return emptyList()
        return heads.first().categories().filter { least == null || it.score() >= least[it.index()] }
            .map { Label(it.categoryName(), it.score()) }
    }

    @Synchronized
    override fun close() = classifier.close()
}
