package com.google.mediapipe.tasks.vision.imageclassifier

import android.content.Context
import com.google.mediapipe.framework.image.MPImage
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.core.ImageProcessingOptions
import com.google.mediapipe.tasks.vision.core.RunningMode

class Category {
    fun categoryName(): String = ""
    fun score(): Float = 0f
    fun index(): Int = 0
}

class Classifications {
    fun categories(): List<Category> = emptyList()
}

class ClassificationResult {
    fun classifications(): List<Classifications> = emptyList()
}

class ImageClassifierResult {
    fun classificationResult(): ClassificationResult = ClassificationResult()
}

class ImageClassifier {
    class ImageClassifierOptions {
        class Builder {
            fun setBaseOptions(options: BaseOptions): Builder = this
            fun setRunningMode(mode: RunningMode): Builder = this
            fun setMaxResults(count: Int): Builder = this
            fun build(): ImageClassifierOptions = ImageClassifierOptions()
        }

        companion object {
            fun builder(): Builder = Builder()
        }
    }

    fun classify(image: MPImage, options: ImageProcessingOptions): ImageClassifierResult = ImageClassifierResult()
    fun close() {}

    companion object {
        fun createFromOptions(context: Context, options: ImageClassifierOptions): ImageClassifier = ImageClassifier()
    }
}
