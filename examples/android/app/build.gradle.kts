plugins {
    id("com.android.application") version "8.13.0"
    kotlin("android") version "2.4.20"
}

android {
    namespace = "kpdetect.app"
    compileSdk = 36
    defaultConfig {
        applicationId = "kpdetect.app"
        minSdk = 26
        targetSdk = 36
        versionCode = 1
        versionName = "0.1.0"
    }
    androidResources {
        noCompress += "tflite" // so that the file can be mapped into memory
    }
    kotlinOptions {
        jvmTarget = "17"
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
    implementation(project(":face"))
    implementation("com.google.ai.edge.litert:litert:2.3.0")
    implementation("androidx.activity:activity-ktx:1.10.1")
    implementation("androidx.camera:camera-camera2:1.4.2")
    implementation("androidx.camera:camera-lifecycle:1.4.2")
    implementation("androidx.camera:camera-view:1.4.2")
}
